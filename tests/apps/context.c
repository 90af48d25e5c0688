/*
 * context: sends its parent what the variables NAME... hold, and its directory, each with its NUL. Of a variable that is set
 * it sends `=VALUE`, of another one nothing but the NUL.
 *
 * context leave|stay|crash NAME...
 *
 * Then it leaves; or stays for a minute; or stays for a second, and crashes.
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char context[1 << 20], directory[4096];
    size_t size = 0;
    for (int i = 2; i < argc; i++) {
        const char *value = getenv(argv[i]);
        size += snprintf(context + size, sizeof context - size, "%s%s", value ? "=" : "", value ? value : "") + 1;
    }
    size += snprintf(context + size, sizeof context - size, "%s", getcwd(directory, sizeof directory) ? directory : "gone") + 1;

    MPI_Comm parent;
    MPI_Init(NULL, NULL);
    MPI_Comm_get_parent(&parent);
    MPI_Send(context, (int)size, MPI_BYTE, 0, 0, parent);
    if (!strcmp(argv[1], "leave")) {
        MPI_Comm_disconnect(&parent);
        MPI_Finalize();
        return 0;
    }
    time_t end = time(NULL) + (strcmp(argv[1], "stay") ? 1 : 60);
    while (time(NULL) <= end) { /* MPICH 4.1 sends its last message only inside MPI calls */
        int there;
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
        usleep(10000);
    }
    raise(SIGSEGV);
}
