/* forks: forks before, in and after a spawn, and tells what became of each child: whether it has a process group of its own,
   and what it has in LD_PRELOAD. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int MPI_Comm_spawn(const char *, char **, int, void *, int, void *, void *, int *);

extern void (*mpi_error_handler)(void); /* failing_mpi.c calls it in the spawn, where Open MPI forks */

static void spawn(void)
{
    void *children;
    MPI_Comm_spawn("child", NULL, 1, NULL, 0, NULL, &children, NULL);
}

static void tell(const char *whose)
{
    const char *preload = getenv("LD_PRELOAD");
    printf("%s: %s, %s\n", whose, getpgrp() == getpid() ? "a group of its own" : "the program's group",
           preload && strstr(preload, "spawnfix") ? "preloaded" : "not preloaded");
    fflush(stdout);
}

static void fork_in(const char *whose, void (*more)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        tell(whose);
        if (more)
            more();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static void in_copys_spawn(void)
{
    fork_in("the copy's launcher", NULL);
}

static void spawn_in_copy(void)
{
    mpi_error_handler = in_copys_spawn;
    spawn();
}

static void *in_other_thread(void *unused)
{
    fork_in("another thread's copy", spawn_in_copy);
    return unused;
}

static void in_spawn(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, in_other_thread, NULL);
    pthread_join(thread, NULL);
    fork_in("the launcher", NULL);
    fork_in("one more", NULL);
}

int main(void)
{
    fork_in("before", NULL);
    mpi_error_handler = in_spawn;
    spawn();
    fork_in("after", NULL);
    return 0;
}
