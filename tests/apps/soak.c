/*
 * soak: spawns N times, and before each spawn reads what has been typed meanwhile. What it read goes to $APP_READ byte for
 * byte. After the first quarter and after the last spawn it holds still, so that others can see what it has: it reports
 * `held` and waits until there is a file `go1`, then `go2`. At the end it reads on until the input ends.
 *
 * soak N [children M]
 */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

static int ended;

/* Reads what there is; with `all`, until the end of the input. */
static void take(int all)
{
    static int keep = -1;
    char buffer[1 << 12];
    if (keep < 0)
        keep = open(getenv("APP_READ"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    while (!ended) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        if (!all && poll(&input, 1, 0) != 1)
            return;
        ssize_t count = read(0, buffer, sizeof buffer);
        if (count < 0)
            report("read_error=%s", strerror(errno));
        if (count <= 0)
            ended = 1;
        else if (write(keep, buffer, count) != count)
            abort();
    }
}

static void hold(int which)
{
    char name[] = "go?";
    name[2] = '0' + which;
    report("held=%d", which);
    while (access(name, F_OK)) {
        take(0);
        usleep(5000);
    }
}

int main(int argc, char **argv)
{
    MPI_Comm parent;
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        MPI_Barrier(parent);
        MPI_Comm_disconnect(&parent);
        MPI_Finalize();
        return 0;
    }
    int times = atoi(argv[1]), children = argc > 3 ? atoi(argv[3]) : 1;
    report("start=");
    for (int i = 1; i <= times; i++) {
        MPI_Comm team;
        int codes[children], size, rc;
        take(0);
        /* At a spawn the agent lets go of the jobs whose children have ended: those of the last one have had the time. */
        if (i == (times + 3) / 4 || i == times)
            sleep(1);
        rc = MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, children, MPI_INFO_NULL, 0, MPI_COMM_SELF, &team, codes);
        for (int child = 0; child < children; child++)
            rc |= codes[child];
        MPI_Comm_remote_size(team, &size);
        if (rc || size != children)
            report("wrong=rc %d, %d children", rc, size);
        MPI_Barrier(team);
        MPI_Comm_disconnect(&team);
        report("spawned=%d", size);
        if (i == (times + 3) / 4)
            hold(1);
    }
    hold(2);
    take(1);
    MPI_Finalize();
    report("end=");
    return 0;
}
