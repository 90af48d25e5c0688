/*
 * traced_child: preloaded into a program, it puts the next child that this forks under strace, up to its exec.
 *
 * CHILD_TRACE  strace's output; nobody whom the program starts sees it
 * CHILD_FAULT  the injection, as strace's -e takes it; unset: only the trace
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char trace[4096], fault[256];

static void become_strace(pid_t child, int output)
{
    char number[16];
    char *words[] = {"strace", "-s0", "-bexecve", "-o", trace, "-p", number, *fault ? "-e" : NULL, fault, NULL};
    snprintf(number, sizeof number, "%d", (int)child);
    dup2(output, 2);
    closefrom(3);
    unsetenv("LD_PRELOAD");
    execvp("strace", words);
    _exit(127);
}

/* Forked by _Fork, which calls no handler; orphaned, as whoever the child becomes must not find it among its own. */
static void in_child(void)
{
    int ends[2];
    char byte = 0;
    pid_t child = getpid(), helper;
    if (!*trace || socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return;
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    helper = _Fork();
    if (helper == 0) {
        if (_Fork() == 0)
            become_strace(child, ends[1]);
        _exit(0);
    }
    waitpid(helper, NULL, 0);
    close(ends[1]);
    /* "strace: Process N attached". Not by read: how many of these are in the trace is chance, and reads are counted. */
    while (byte != '\n' && recv(ends[0], &byte, 1, 0) == 1)
        ;
    close(ends[0]);
    *trace = 0;
    getpgid(0); /* the trace counts from here */
}

static void take(char *to, size_t size, const char *name)
{
    char *value = getenv(name);
    snprintf(to, size, "%s", value ? value : "");
    unsetenv(name);
}

__attribute__((constructor)) static void load(void)
{
    take(trace, sizeof trace, "CHILD_TRACE");
    take(fault, sizeof fault, "CHILD_FAULT");
    pthread_atfork(NULL, NULL, in_child);
}
