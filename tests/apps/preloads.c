/*
 * preloads: a program that reads two lines, spawns, and reads on, while other libraries are preloaded: it reports whether
 * each still does its thing, in the program and in its child. What it read goes to $APP_READ.
 *
 * Compiled with -DSPAWN=NAME, it spawns by that function, which has MPI_Comm_spawn's arguments.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#ifndef SPAWN
#define SPAWN MPI_Comm_spawn
#endif
int SPAWN(const char *, char **, int, MPI_Info, int, MPI_Comm, MPI_Comm *, int *);

static void tell(const char *whose)
{
    /* libeatmydata: to synchronise a pipe is an error, unless nothing is ever synchronised. */
    int ends[2];
    if (pipe(ends))
        abort();
    report("%s_fsync=%s", whose, fsync(ends[1]) ? "works" : "is eaten");
    close(ends[0]);
    close(ends[1]);
    /* libfaketime */
    time_t now = time(NULL);
    report("%s_year=%d", whose, gmtime(&now)->tm_year + 1900);
    /* jemalloc, which counts what it allocates */
    int (*mallctl)(const char *, void *, size_t *, void *, size_t) = dlsym(RTLD_DEFAULT, "mallctl");
    size_t allocated = 0, size = sizeof allocated;
    if (mallctl && mallctl("stats.allocated", &allocated, &size, NULL, 0))
        abort();
    report("%s_malloc=%s", whose, allocated ? "jemalloc" : "libc");
    /* snoopy, which writes down what is executed */
    char *command[] = {"true", (char *)whose, NULL};
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execv("/bin/true", command);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status)
        abort();
}

static void keep(const char *bytes, ssize_t count)
{
    static int file = -1;
    if (file < 0)
        file = open(getenv("APP_READ"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (write(file, bytes, count) != count)
        abort();
}

int main(int argc, char **argv)
{
    MPI_Comm parent, team;
    char buffer[1 << 12];
    ssize_t count;
    int code;
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        tell("child");
        MPI_Barrier(parent);
        MPI_Comm_disconnect(&parent);
        MPI_Finalize();
        report("bye=");
        return 0;
    }
    for (int lines = 0; lines < 2 && (count = read(0, buffer, 1)) == 1; lines += *buffer == '\n')
        keep(buffer, 1);
    tell("before");
    report("spawning=");
    int rc = SPAWN(argv[0], MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &team, &code);
    report("spawned=%d %d", rc, code);
    MPI_Barrier(team);
    MPI_Comm_disconnect(&team);
    report("working=");
    usleep(300000);
    while ((count = read(0, buffer, sizeof buffer)) > 0)
        keep(buffer, count);
    if (count < 0)
        report("read_error=%s", strerror(errno));
    tell("after");
    MPI_Finalize();
    report("end=");
    return 0;
}
