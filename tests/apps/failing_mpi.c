/* An MPI library whose spawn never succeeds: it waits for a launcher that never connects, or calls the program's error
   handler at once. It says that it is what MPI_NAME says. Like MPICH, it is C that exceptions can pass through. */
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void (*mpi_error_handler)(void);

static void closed(void *listener)
{
    close(*(int *)listener);
    puts("MPI closed its socket");
}

static int spawn(void)
{
    if (mpi_error_handler) {
        mpi_error_handler();
        return 1;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0), connection;
    listen(listener, 1);
    pthread_cleanup_push(closed, &listener);
    puts("MPI waits for its launcher");
    fflush(stdout);
    connection = accept(listener, NULL, NULL);
    pthread_cleanup_pop(1);
    return connection < 0;
}

int MPI_Get_library_version(char *version, int *length)
{
    *length = sprintf(version, "%s", getenv("MPI_NAME"));
    return 0;
}

int MPI_Comm_spawn(const char *command, char **argv, int maxprocs, void *info, int root, void *comm, void *children,
                   int *codes)
{
    (void)command, (void)argv, (void)maxprocs, (void)info, (void)root, (void)comm, (void)children, (void)codes;
    return spawn();
}

int MPI_Comm_spawn_multiple(int count, char **commands, char ***argvs, const int *maxprocs, void *infos, int root,
                            void *comm, void *children, int *codes)
{
    (void)count, (void)commands, (void)argvs, (void)maxprocs, (void)infos, (void)root, (void)comm, (void)children,
        (void)codes;
    return spawn();
}
