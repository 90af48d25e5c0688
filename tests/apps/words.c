/* words: sends its parent the words that it got, each with its NUL. */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    size_t size = 0;
    char *words = malloc(1 << 21); /* all that Linux takes: a quarter of the limit for the stack */
    for (int i = 1; i < argc; i++) {
        strcpy(words + size, argv[i]);
        size += strlen(argv[i]) + 1;
    }
    MPI_Comm parent;
    MPI_Init(NULL, NULL);
    MPI_Comm_get_parent(&parent);
    MPI_Send(words, (int) size, MPI_BYTE, 0, 0, parent);
    MPI_Comm_disconnect(&parent);
    MPI_Finalize();
    return 0;
}
