/*
 * lost: a program that spawns workers that may not come to their MPI_Init, sees what comes of that, then spawns itself, hears
 * from its children, and reads a line.
 *
 * lost [fatal] [universe] [multiple] COUNT COMMAND [ARG...]
 *
 * COUNT COMMAND ARG: the workers; COMMAND `self` is a child that does come; fatal: with the error handler that a program has if
 * it does not ask for another; universe: asks for MPI_UNIVERSE_SIZE first; multiple: by MPI_Comm_spawn_multiple, twice as many.
 */
#include <dirent.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

/* How many descriptors this process has of what the library shares with its agent. */
static int pages(void)
{
    int count = 0;
    char path[300], link[300];
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");
    while ((entry = readdir(dir))) {
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(path, link, sizeof link);
        count += length > 15 && !memcmp(link, "/memfd:spawnfix", 15);
    }
    closedir(dir);
    return count;
}

static int child(MPI_Comm parent)
{
    int word = 42;
    /* Until it is received: UCX can't attach to the shared memory of a child that has gone by then. */
    MPI_Ssend(&word, 1, MPI_INT, 0, 0, parent);
    MPI_Comm_disconnect(&parent);
    MPI_Finalize();
    return 0;
}

static void hear(MPI_Comm children)
{
    int count, word = 0;
    MPI_Comm_remote_size(children, &count);
    for (int child = 0; child < count; child++) {
        MPI_Recv(&word, 1, MPI_INT, child, 0, children, MPI_STATUS_IGNORE);
        report("heard=%d", word);
    }
    MPI_Comm_disconnect(&children);
}

int main(int argc, char **argv)
{
    int fatal = 0, universe = 0, multiple = 0, *size, there, next = 1, code;
    char line[100] = "", *self = argv[0];
    MPI_Comm parent, children;
    struct timespec start, end;
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        return child(parent);
    for (; next < argc && !strchr("0123456789", *argv[next]); next++) {
        fatal |= !strcmp(argv[next], "fatal");
        universe |= !strcmp(argv[next], "universe");
        multiple |= !strcmp(argv[next], "multiple");
    }
    if (next + 2 > argc)
        abort();
    int count = atoi(argv[next]);
    char *command = strcmp(argv[next + 1], "self") ? argv[next + 1] : self, **words = argv + next + 2;
    if (!fatal)
        MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (universe)
        MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_UNIVERSE_SIZE, &size, &there);
    report("spawning=");
    clock_gettime(CLOCK_MONOTONIC, &start);
    if (multiple) {
        char *commands[] = {command, command}, **argvs[] = {words, words};
        int counts[] = {count, count};
        MPI_Info infos[] = {MPI_INFO_NULL, MPI_INFO_NULL};
        code = MPI_Comm_spawn_multiple(2, commands, argvs, counts, infos, 0, MPI_COMM_SELF, &children,
                                       MPI_ERRCODES_IGNORE);
    } else {
        code = MPI_Comm_spawn(command, words, count, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    long ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    report("took=%ld", ms);
    report("spawned=%s, %s", code == MPI_SUCCESS ? "success" : code == MPI_ERR_SPAWN ? "MPI_ERR_SPAWN" : "another error",
           children == MPI_COMM_NULL ? "null" : "a communicator");
    if (code == MPI_SUCCESS)
        hear(children);
    MPI_Comm_spawn(self, MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
    hear(children);
    report("pages=%d", pages());
    for (size_t length = 0; length < sizeof line - 1 && !strchr(line, '\n') && read(0, line + length, 1) == 1;)
        length++;
    report("read=%.*s", (int)strcspn(line, "\n"), line);
    MPI_Finalize();
    report("end=");
    return 0;
}
