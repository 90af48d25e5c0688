/* A job that someone starts with nohup, and logs out: SIGHUP goes to each job, which is a process group. */

#include "report.h"
#include <mpi.h>
#include <signal.h>

static void spawn(const char *self)
{
    MPI_Comm child;
    char *argv[] = {"child", NULL};
    MPI_Comm_spawn(self, argv, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child, MPI_ERRCODES_IGNORE);
    MPI_Barrier(child);
    MPI_Comm_disconnect(&child);
}

int main(int argc, char **argv)
{
    MPI_Comm parent;

    MPI_Init(&argc, &argv);
    if (argc > 1) {
        MPI_Comm_get_parent(&parent);
        MPI_Barrier(parent);
        MPI_Comm_disconnect(&parent);
    } else {
        report("began=");
        spawn(argv[0]);
        report("spawned=");
        kill(0, SIGHUP);
        usleep(500000);
        report("lives=");
        spawn(argv[0]);
        report("end=");
    }
    MPI_Finalize();
    return 0;
}
