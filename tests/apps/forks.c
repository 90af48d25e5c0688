/* forks: forks and executes before, in and after a spawn, after a longjmp out of one, and from other threads; and tells what
   became of each child: whether it has a process group of its own, what it has on fd 0, and what in LD_PRELOAD.

   forks DIR: DIR has links to this program that are called as MPI's launchers are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int MPI_Comm_spawn(const char *, char **, int, void *, int, void *, void *, int *);

extern void (*mpi_error_handler)(void); /* failing_mpi.c calls it in the spawn, where MPI forks */

static const char *links;
static jmp_buf before;

static void spawn(void)
{
    void *children;
    MPI_Comm_spawn("child", NULL, 1, NULL, 0, NULL, &children, NULL);
}

static void tell(const char *whose)
{
    const char *preload = getenv("LD_PRELOAD");
    printf("%s: %s, %s, %s\n", whose, getpgrp() == getpid() ? "a group of its own" : "the program's group",
           (fcntl(0, F_GETFL) & O_ACCMODE) == O_RDONLY ? "its stdin" : "no stdin",
           preload && strstr(preload, "spawnfix") ? "preloaded" : "not preloaded");
    fflush(stdout);
}

/* Executes the link of this name. */
static void become(const char *name, char *argv[], int by_path)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", links, name);
    if (by_path)
        execv(path, argv);
    else
        execvp(path, argv);
    _exit(127);
}

static void fork_in(char *whose)
{
    char *command[] = {"tell", whose, NULL};
    char *mpiexec[] = {"mpiexec", whose, "-n", "1", "-pmi_args", "1", NULL};
    char *prte[] = {"prte", whose, "--singleton", "x", NULL};
    char **all[] = {command, mpiexec, prte};
    for (int i = 0; i < 3; i++) {
        pid_t pid = i == 1 ? vfork() : fork();
        if (pid == 0)
            become(all[i][0], all[i], i == 2);
        waitpid(pid, NULL, 0);
    }
}

static void *in_other_thread(void *whose)
{
    fork_in(whose);
    return whose;
}

static void fork_in_thread(char *whose)
{
    pthread_t thread;
    pthread_create(&thread, NULL, in_other_thread, whose);
    pthread_join(thread, NULL);
}

static void in_spawn(void)
{
    fork_in_thread("another thread");
    fork_in("in the spawn");
}

static void jump_out(void)
{
    longjmp(before, 1);
}

int main(int argc, char **argv)
{
    if (strcmp(argv[0] + strlen(argv[0]) - strlen("forks"), "forks"))
        return tell(argv[1]), 0;
    if (argc < 2)
        return 2;
    links = argv[1];
    fork_in("before");
    mpi_error_handler = in_spawn;
    spawn();
    mpi_error_handler = jump_out;
    if (!setjmp(before))
        spawn();
    fork_in_thread("another thread after the jump");
    fork_in("after the jump");
    return 0;
}
