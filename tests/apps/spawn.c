/*
 * spawn: a program that reads its stdin, spawns, and reads on. What it read goes to $APP_READ byte for byte, what it saw of
 * its descriptors to $APP_REPORT, so that nothing on the terminal can garble either.
 *
 * spawn [multiple] [times N] [universe] [before LINES] [work MS] [blind: reads nothing]
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"

static void keep(const char *bytes, size_t count)
{
    FILE *file = fopen(getenv("APP_READ"), "ae");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file))
        abort();
}

static int descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 3; /* ".", ".." and the directory's own */
}

static int child(MPI_Comm parent, const char *word)
{
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int line = 1; line <= 3; line++)
        printf("hello from child %d of %d, line %d\n", rank + 1, size, line);
    fflush(stdout);
    if (getenv("CHILD_READS")) {
        int count = 0;
        while (getchar() != EOF)
            count++;
        report("child_read=%d", count);
    }
    report("child=%d of %d, %s", rank + 1, size, word);
    MPI_Barrier(parent); /* the parent is connected: MPICH 5 fails a spawn whose child has gone before */
    MPI_Comm_disconnect(&parent);
    MPI_Finalize();
    report("bye=");
    return 0;
}

static void spawn(char *self, int multiple)
{
    MPI_Comm children;
    int codes[2] = {-1, -1}, rc, size;
    char *one[] = {"child", "first", NULL}, *two[] = {"child", "second", NULL};
    if (multiple) {
        char *commands[] = {self, self};
        char **argvs[] = {one, two};
        int counts[] = {1, 1};
        MPI_Info infos[] = {MPI_INFO_NULL, MPI_INFO_NULL};
        rc = MPI_Comm_spawn_multiple(2, commands, argvs, counts, infos, 0, MPI_COMM_WORLD, &children, codes);
    } else {
        codes[1] = MPI_SUCCESS;
        rc = MPI_Comm_spawn(self, one, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children, codes);
    }
    MPI_Comm_remote_size(children, &size);
    report("spawned=%d", size);
    if (rc != MPI_SUCCESS || codes[0] != MPI_SUCCESS || codes[1] != MPI_SUCCESS || size != 1 + multiple)
        report("wrong=rc %d, codes %d %d, size %d", rc, codes[0], codes[1], size);
    MPI_Barrier(children);
    MPI_Comm_disconnect(&children);
}

int main(int argc, char **argv)
{
    int multiple = 0, times = 1, universe = 0, before = 0, work = 0, blind = 0;
    for (int i = 1; i < argc && strcmp(argv[1], "child"); i++) {
        if (!strcmp(argv[i], "multiple"))
            multiple = 1;
        else if (!strcmp(argv[i], "universe"))
            universe = 1, times = 0;
        else if (!strcmp(argv[i], "blind"))
            blind = 1;
        else if (!strcmp(argv[i], "times"))
            times = atoi(argv[++i]);
        else if (!strcmp(argv[i], "before"))
            before = atoi(argv[++i]);
        else if (!strcmp(argv[i], "work"))
            work = atoi(argv[++i]);
    }

    struct stat was, is;
    int closed = fstat(0, &was) != 0;
    int kept = closed ? -1 : fcntl(0, F_DUPFD_CLOEXEC, 100);

    MPI_Init(&argc, &argv);
    MPI_Comm parent;
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        return child(parent, argc > 2 ? argv[2] : "no argument");

    report("pid=%d", (int)getpid());
    char buffer[1 << 16];
    for (int i = 0; i < before && !closed; i++) { /* byte by byte: nothing is read ahead */
        size_t length = 0;
        while (length < sizeof buffer && read(0, buffer + length, 1) == 1 && buffer[length++] != '\n')
            ;
        keep(buffer, length);
    }

    report("spawning=");
    if (universe) {
        int *slots, found;
        MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_UNIVERSE_SIZE, &slots, &found);
        report("universe=%d", found ? *slots : -1);
    }
    for (int i = 0; i < times; i++)
        spawn(argv[0], multiple);
    report("working=");
    usleep(work * 1000);

    int wrong = 0;
    if (!closed && !blind) {
        ssize_t count;
        while ((count = read(0, buffer, sizeof buffer)) > 0)
            keep(buffer, count);
        if (count < 0)
            report("read_error=%s", strerror(errno)), wrong = 1;
        /* The same description, if a status flag set through one descriptor shows through the other. */
        int flags = fcntl(0, F_GETFL), same = fstat(0, &is) == 0 && was.st_dev == is.st_dev && was.st_ino == is.st_ino;
        fcntl(0, F_SETFL, flags ^ O_APPEND);
        same = same && fcntl(kept, F_GETFL) == (flags ^ O_APPEND);
        fcntl(0, F_SETFL, flags);
        report("same_stdin=%s", same ? "yes" : "no");
        report("stdin_cloexec=%d", fcntl(0, F_GETFD));
    }
    for (int fd = closed; fd <= 2; fd++)
        report("nonblock_%d=%s", fd, fcntl(fd, F_GETFL) & O_NONBLOCK ? "yes" : "no");
    MPI_Finalize();
    report("descriptors=%d", descriptors());
    report("end=");
    return wrong;
}
