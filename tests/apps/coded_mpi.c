/* An MPI library whose spawn returns CODE. */
#include <string.h>

int MPI_Get_library_version(char *version, int *length)
{
    strcpy(version, "MPICH Version: 4.2.3");
    *length = (int)strlen(version);
    return 0;
}

int MPI_Comm_spawn(const char *command, char **argv, int maxprocs, int info, int root, int comm, int *children, int *codes)
{
    (void)command, (void)argv, (void)maxprocs, (void)info, (void)root, (void)comm, (void)children, (void)codes;
    return CODE;
}
