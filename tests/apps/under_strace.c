/*
 * under_strace: stands where the agent is looked for, and becomes it, under strace where FAULT_IN says so. strace
 * runs as a process of its own (-DDD), so that the process id, the parent, the group and what follows from them stay.
 *
 * FAULT_IN     agent, bridge: whom to trace
 * FAULT        the injection, as strace's -e takes it; unset: only the trace
 * FAULT_TRACE  strace's output
 * FAULT_PLACE  a directory of its own, on the file system of the real spawnfix
 * FAULT_REAL   the directory of the real spawnfix
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(126);
}

/* Runs it under strace, with strace itself outside of the library's reach: what it executes keeps LD_PRELOAD. */
static void trace(char *file, int argc, char **argv)
{
    char *words[argc + 16], *fault = getenv("FAULT"), *preload = getenv("LD_PRELOAD"), variable[4096];
    int n = 0;
    words[n++] = "strace";
    words[n++] = "-DDDqq";
    words[n++] = "-o";
    words[n++] = getenv("FAULT_TRACE");
    words[n++] = "-s0";
    if (preload) {
        snprintf(variable, sizeof variable, "LD_PRELOAD=%s", preload);
        words[n++] = "-E";
        words[n++] = variable;
        unsetenv("LD_PRELOAD");
    }
    if (fault) {
        words[n++] = "-e";
        words[n++] = fault;
    }
    words[n++] = file;
    for (int i = 1; i <= argc; i++)
        words[n++] = argv[i];
    execvp("strace", words);
    die("strace");
}

int main(int argc, char **argv)
{
    char *in = getenv("FAULT_IN"), file[4096], other[4096];
    if (argc < 2 || !in)
        die("usage");
    snprintf(file, sizeof file, "%s/spawnfix", getenv("FAULT_REAL"));
    if (!strcmp(in, !strcmp(argv[1], "--agent") ? "agent" : "bridge"))
        trace(file, argc, argv);
    if (!strcmp(argv[1], "--agent") && !strcmp(in, "bridge")) {
        /* The agent takes the path that it was executed by for its bridge's: this program is put there once it is open. */
        snprintf(other, sizeof other, "%s/spawnfix.old", getenv("FAULT_PLACE"));
        if (link(file, other))
            die(other);
        int fd = open(other, O_RDONLY);
        if (fd < 0 || unlink(other))
            die(other);
        char self[4096];
        ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
        if (length < 0)
            die("/proc/self/exe");
        self[length] = 0;
        if (symlink(self, other))
            die(other);
        fexecve(fd, argv, environ);
        die("spawnfix");
    }
    execv(file, argv);
    die(file);
}
