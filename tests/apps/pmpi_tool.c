/* A tool of MPI's profiling interface (MPI 4.1, section 15.2), as profilers have it: it stands in for MPI_Comm_spawn and
   calls PMPI_Comm_spawn. tool_spawn calls the MPI_Comm_spawn that this library was bound to. */
#include <mpi.h>

#include "report.h"

int MPI_Comm_spawn(const char *command, char *argv[], int maxprocs, MPI_Info info, int root, MPI_Comm comm,
                   MPI_Comm *intercomm, int codes[])
{
    int rc = PMPI_Comm_spawn(command, argv, maxprocs, info, root, comm, intercomm, codes);
    report("wrapped=%d", rc);
    return rc;
}

int tool_spawn(const char *command, char *argv[], int maxprocs, MPI_Info info, int root, MPI_Comm comm,
               MPI_Comm *intercomm, int codes[])
{
    return MPI_Comm_spawn(command, argv, maxprocs, info, root, comm, intercomm, codes);
}
