/*
 * attempts: a program that spawns itself, sees what comes of it, and goes on. What it saw goes to $APP_REPORT, each line with
 * the process id of whoever writes it: were a second copy of the program to run on after a failed launch, it would show.
 *
 * attempts [times N] [then PATH] [fatal] [universe] [unwrapped] [sigchld handled|interrupts|ignored|waited]
 *
 * times N: so many attempts; then PATH: one more with that PATH; fatal: with the error handler that a program has if it does
 * not ask for another; universe: ask for MPI_UNIVERSE_SIZE instead; unwrapped: call the MPI_Comm_spawn that dlsym finds in
 * libmpi itself, as Julia's ccall, .NET and ctypes do; sigchld: what becomes of children that end.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

/* As Fortran's threadprivate: glibc takes it from each thread's stack. */
static __thread char much[300 * 1024];

typedef int Spawn(const char *, char **, int, MPI_Info, int, MPI_Comm, MPI_Comm *, int *);

static int entries(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2; /* "." and ".." */
}

/* What this process holds that could be left over. */
static void held(const char *name)
{
    siginfo_t child = {0};
    int none = waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
    int listeners = 0;
    for (int fd = 0; fd < 1024; fd++) {
        int listens = 0;
        socklen_t size = sizeof listens;
        listeners += !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) && listens;
    }
    report("%s=%d %d threads, %s, %d listeners, %d descriptors", name, getpid(), entries("/proc/self/task"),
           none ? "no child" : child.si_pid ? "a zombie" : "a child", listeners, entries("/proc/self/fd") - 1);
}

/* Reaps whatever child has ended, as servers and shells do. */
static void reap(int signal)
{
    int before = errno;
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = before;
}

static void note(int signal)
{
    (void)signal;
}

/* Waits for whatever child there is, all the time. */
static void *wait_for_all(void *unused)
{
    for (;;)
        if (wait(NULL) < 0)
            usleep(1000);
    return unused;
}

static void children_that_end(const char *are)
{
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_RESTART};
    pthread_t thread;
    if (!strcmp(are, "handled"))
        action.sa_handler = reap;
    else if (!strcmp(are, "interrupts"))
        action = (struct sigaction){.sa_handler = note};
    else if (!strcmp(are, "ignored"))
        action.sa_handler = SIG_IGN;
    else if (!strcmp(are, "waited"))
        pthread_create(&thread, NULL, wait_for_all, NULL);
    else
        abort();
    sigaction(SIGCHLD, &action, NULL);
}

static Spawn *unwrapped(void)
{
    Dl_info libmpi;
    void *init = dlsym(RTLD_DEFAULT, "MPI_Init");
    if (!init || !dladdr(init, &libmpi))
        abort();
    return (Spawn *)dlsym(dlopen(libmpi.dli_fname, RTLD_NOW | RTLD_NOLOAD), "MPI_Comm_spawn");
}

static void attempt(Spawn *spawn, char *self, int universe)
{
    MPI_Comm children = MPI_COMM_NULL;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length, rc, there = 0, *size;
    struct timespec start, end;
    report("attempting=%d ", getpid());
    clock_gettime(CLOCK_MONOTONIC, &start);
    if (universe)
        rc = MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_UNIVERSE_SIZE, &size, &there);
    else
        rc = spawn(self, MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    if (rc)
        MPI_Error_string(rc, text, &length);
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
    report("attempt=%d %s %ld ms %s", getpid(), rc ? "failed" : "succeeded", ms, text);
    if (rc)
        printf("the program was told of an error\n");
    fflush(stdout);
    if (!rc && !universe) {
        MPI_Barrier(children); /* the child has reported */
        MPI_Comm_disconnect(&children);
    }
}

int main(int argc, char **argv)
{
    int times = 1, fatal = 0, universe = 0;
    char *path = NULL;
    Spawn *spawn = MPI_Comm_spawn;
    MPI_Comm parent;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "times"))
            times = atoi(argv[++i]);
        else if (!strcmp(argv[i], "then"))
            path = argv[++i];
        else if (!strcmp(argv[i], "fatal"))
            fatal = 1;
        else if (!strcmp(argv[i], "universe"))
            universe = 1;
        else if (!strcmp(argv[i], "unwrapped"))
            spawn = unwrapped();
        else if (!strcmp(argv[i], "sigchld"))
            children_that_end(argv[++i]);
        else
            abort();
    }
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        report("child=%d ", getpid());
        MPI_Barrier(parent);
        MPI_Comm_disconnect(&parent);
        MPI_Finalize();
        return 0;
    }
    report("start=%d ", getpid());
    much[argc] = 1;
    if (!fatal) {
        MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    }
    held("held_before");
    for (int i = 1; i <= times; i++) {
        attempt(spawn, argv[0], universe);
        if (i == 1)
            held("held_after_first");
    }
    held("held_after_last");
    if (path) {
        setenv("PATH", path, 1);
        attempt(spawn, argv[0], universe);
    }
    MPI_Finalize();
    report("end=%d ", getpid());
    printf("the program went on to its end\n");
    return 0;
}
