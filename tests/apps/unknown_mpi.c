/*
 * An MPI that the library does not know, as far as unknown.c needs one: its handles are pointers, it spawns nothing, and
 * reports what a launcher would find on fd 0 during the call.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *Handle;

int MPI_Get_library_version(char *version, int *length)
{
    *length = sprintf(version, "Frobnicate MPI 7.3, of nowhere");
    return 0;
}

static FILE *report(void)
{
    return fopen(getenv("APP_REPORT"), "ae");
}

static void look(void)
{
    char byte;
    errno = 0;
    ssize_t count = read(0, &byte, 1);
    int error = errno, fd = open("/dev/null", O_RDONLY);
    FILE *file = report();
    fprintf(file, "during_read=%s\n", count < 0 ? strerror(error) : count ? "a byte" : "end of file");
    fprintf(file, "during_open=%s\n", fd == 0 ? "fd 0" : "another");
    fclose(file);
    close(fd);
}

int MPI_Comm_spawn(const char *command, char **argv, int maxprocs, Handle info, int root, Handle comm, Handle *children,
                   int *codes)
{
    look();
    FILE *file = report();
    fprintf(file, "arguments=%s %s %d %p %d %p\n", command, argv[0], maxprocs, info, root, comm);
    fclose(file);
    *children = (Handle)(uintptr_t)0xfeedfacecafebeef;
    for (int i = 0; i < maxprocs; i++)
        codes[i] = 70 + i;
    return maxprocs; /* so that the caller chooses the error */
}

int MPI_Comm_spawn_multiple(int count, char **commands, char ***argvs, const int *maxprocs, const Handle *infos, int root,
                            Handle comm, Handle *children, int *codes)
{
    look();
    FILE *file = report();
    fprintf(file, "arguments=%d %s %s %s %d %d %p %p %d %p\n", count, commands[0], commands[1], argvs[1][0], maxprocs[0],
            maxprocs[1], infos[0], infos[1], root, comm);
    fclose(file);
    *children = (Handle)(uintptr_t)0xfeedfacecafebeef;
    for (int i = 0; i < maxprocs[0] + maxprocs[1]; i++)
        codes[i] = 70 + i;
    return maxprocs[0];
}
