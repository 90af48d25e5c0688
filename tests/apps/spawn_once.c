/* A spawn, and nothing else: the exit status is 0 if it works. */

#include <mpi.h>
#include <stddef.h>

int main(int argc, char **argv)
{
    MPI_Comm others;
    char *child[] = {"child", NULL};

    MPI_Init(&argc, &argv);
    if (argc > 1)
        MPI_Comm_get_parent(&others);
    else
        MPI_Comm_spawn(argv[0], child, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &others, MPI_ERRCODES_IGNORE);
    MPI_Barrier(others);
    MPI_Comm_disconnect(&others);
    MPI_Finalize();
    return 0;
}
