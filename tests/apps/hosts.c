/*
 * hosts: a program whose children are started on its process manager's hosts. It hears of each on which one it is,
 * reads its stdin to the end, lets the last children go, and ends. What it read goes to $APP_READ byte for byte.
 *
 * hosts [children N] [times N] [host NAME: asked for in MPI_Info] [crash: the first children crash]
 *       [early: lets the last children go before it reads] [keep: lets no children go before it has read]
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

enum { LEAVE, CRASH };

struct name {
    char text[64];
};

/* Hosts may all bear one name: tests/cluster/three-hosts says which one this is. */
static struct name host(void)
{
    struct name name = {""};
    FILE *file = fopen("/run/three-hosts", "re");
    if (!file || fscanf(file, "%63s", name.text) != 1)
        abort();
    fclose(file);
    return name;
}

/* Whatever of spawnfix reached this process. */
static void report_preload(void)
{
    const char *preload = getenv("LD_PRELOAD");
    report("child_preload=%s", preload ? preload : "not set");
    FILE *maps = fopen("/proc/self/maps", "re");
    for (char line[4096]; fgets(line, sizeof line, maps);)
        if (strstr(line, "libspawnfix"))
            report("child_maps=%s", line);
    fclose(maps);
}

static int child(MPI_Comm parent)
{
    struct name name = host();
    int rank, size, there = 0, word;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    report_preload();
    report("child=%d of %d on %s", rank, size, name.text);
    MPI_Send(&name, sizeof name, MPI_CHAR, 0, 0, parent);
    /* Waits without spinning: the machine has all three hosts to serve. */
    while (MPI_Iprobe(0, 0, parent, &there, MPI_STATUS_IGNORE), !there)
        usleep(5000);
    MPI_Recv(&word, 1, MPI_INT, 0, 0, parent, MPI_STATUS_IGNORE);
    if (word == CRASH)
        raise(SIGSEGV);
    printf("child %d says goodbye from %s\n", rank, name.text);
    fflush(stdout);
    MPI_Barrier(parent);
    MPI_Comm_disconnect(&parent);
    MPI_Finalize();
    report("bye=%d", rank);
    return 0;
}

/* Spawns, and hears of each child. False: it could not. */
static int spawn(char *self, int count, MPI_Info info, MPI_Comm *children)
{
    char *arguments[] = {"child", getenv("APP_REPORT"), NULL}, text[MPI_MAX_ERROR_STRING];
    int length, size;
    report("spawning=");
    int rc = MPI_Comm_spawn(self, arguments, count, info, 0, MPI_COMM_SELF, children, MPI_ERRCODES_IGNORE);
    if (rc != MPI_SUCCESS) {
        MPI_Error_string(rc, text, &length);
        text[strcspn(text, "\n")] = 0;
        report("failed=%s", text);
        return 0;
    }
    MPI_Comm_remote_size(*children, &size);
    for (int rank = 0; rank < size; rank++) {
        struct name name;
        MPI_Recv(&name, sizeof name, MPI_CHAR, rank, 0, *children, MPI_STATUS_IGNORE);
        report("heard=%d of %d on %s", rank, size, name.text);
    }
    report("spawned=%d", size);
    return 1;
}

static void tell(MPI_Comm children, int word)
{
    int size, there;
    MPI_Comm_remote_size(children, &size);
    for (int rank = 0; rank < size; rank++)
        MPI_Send(&word, 1, MPI_INT, rank, 0, children);
    if (word == LEAVE) {
        MPI_Barrier(children);
        MPI_Comm_disconnect(&children);
        report("disconnected=");
        return;
    }
    /* MPICH 4.1 and 4.2 push a last message only inside MPI calls. */
    for (int i = 0; i < 60; i++) {
        MPI_Iprobe(0, 0, children, &there, MPI_STATUS_IGNORE);
        usleep(5000);
    }
    report("crashed=");
}

static void read_all(void)
{
    char buffer[1 << 16];
    FILE *file = fopen(getenv("APP_READ"), "ae");
    report("working=");
    for (ssize_t count; (count = read(0, buffer, sizeof buffer)) > 0;)
        if (!file || fwrite(buffer, 1, count, file) != (size_t)count)
            abort();
    fclose(file);
}

int main(int argc, char **argv)
{
    int count = 1, times = 1, crash = 0, early = 0, keep = 0, kept = 0;
    MPI_Comm parent, children[64];
    MPI_Info info;
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        /* Open MPI gives children on other hosts no environment of the application's. */
        setenv("APP_REPORT", argv[2], 0);
        return child(parent);
    }

    MPI_Info_create(&info);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "children"))
            count = atoi(argv[++i]);
        else if (!strcmp(argv[i], "times"))
            times = atoi(argv[++i]);
        else if (!strcmp(argv[i], "host"))
            MPI_Info_set(info, "host", argv[++i]);
        else if (!strcmp(argv[i], "crash"))
            crash = 1;
        else if (!strcmp(argv[i], "early"))
            early = 1;
        else if (!strcmp(argv[i], "keep"))
            keep = 1;
    }
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    report("parent=on %s", host().text);
    for (int i = 0; i < times; i++) {
        if (!spawn(argv[0], count, info, &children[kept]))
            continue;
        if (keep || (i == times - 1 && !early))
            kept++;
        else
            tell(children[kept], crash && i == 0 ? CRASH : LEAVE);
    }
    read_all();
    while (kept)
        tell(children[--kept], LEAVE);
    MPI_Info_free(&info);
    report("finalizing=");
    MPI_Finalize();
    report("end=");
    return 0;
}
