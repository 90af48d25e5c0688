/*
 * signals: a program that spawns in a storm of signals, and reads what is typed meanwhile. What it read goes to $APP_READ.
 *
 * signals N [restart] [forks]: N spawns, while a timer sends SIGALRM each millisecond, and another process SIGINT, SIGCHLD,
 *     SIGWINCH each half a millisecond, SIGWINCH to the whole process group, as a terminal does whose window changes. All
 *     have handlers: with SA_RESTART, or not. forks: a thread forks and executes `true` meanwhile, over and over.
 * signals N disabled: N threads, one after the other, that spawn with a cancellation pending, which they have disabled, and
 *     die of it afterwards.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"

static const int STORM[] = {SIGALRM, SIGINT, SIGCHLD, SIGWINCH};
static atomic_int counts[64], forked, wrong, done;
static char *self;

static void count(int signal)
{
    counts[signal]++;
}

/* Reads what there is; with `all`, until the end of the input. */
static void take(int all)
{
    static int keep = -1, ended;
    char buffer[1 << 12];
    if (keep < 0)
        keep = open(getenv("APP_READ"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    while (!ended) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        int ready = poll(&input, 1, all ? -1 : 0);
        ssize_t got = ready == 1 ? read(0, buffer, sizeof buffer) : -1;
        if (ready < 0 || (ready == 1 && got < 0)) {
            if (errno == EINTR)
                continue;
            report("read_error=%s", strerror(errno));
            ended = 1;
        } else if (ready == 0) {
            return;
        } else if (got == 0) {
            ended = 1;
        } else if (write(keep, buffer, got) != got) {
            abort();
        }
    }
}

static void flood(pid_t program)
{
    while (getppid() == program) {
        kill(program, SIGINT);
        kill(program, SIGCHLD);
        kill(0, SIGWINCH);
        usleep(500);
    }
    _exit(0);
}

static pid_t start_storm(int restart)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = restart ? SA_RESTART : 0};
    for (size_t i = 0; i < sizeof STORM / sizeof *STORM; i++)
        sigaction(STORM[i], &action, NULL);
    pid_t program = getpid(), flooder = fork();
    if (flooder == 0) {
        signal(SIGINT, SIG_IGN);
        flood(program);
    }
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &often, NULL);
    return flooder;
}

static void end_storm(pid_t flooder)
{
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    kill(flooder, SIGKILL);
    while (waitpid(flooder, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void *fork_on(void *unused)
{
    char *command[] = {"true", NULL};
    while (!done) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            execvp(command[0], command);
            _exit(127);
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (status != 0)
            wrong++;
        forked++;
        usleep(1000);
    }
    return unused;
}

static void spawn(void)
{
    MPI_Comm team;
    int code, rc = MPI_Comm_spawn(self, MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &team, &code);
    report("spawned=%d %d", rc, code);
    if (rc)
        return;
    MPI_Barrier(team);
    MPI_Comm_disconnect(&team);
}

static void *spawn_and_die(void *unused)
{
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    spawn();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (state != PTHREAD_CANCEL_DISABLE)
        wrong++;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    return unused;
}

int main(int argc, char **argv)
{
    int provided, restart = 0, forks = 0, disabled = 0, cancelled = 0;
    MPI_Comm parent;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        MPI_Barrier(parent);
        MPI_Comm_disconnect(&parent);
        MPI_Finalize();
        return 0;
    }
    self = argv[0];
    for (int i = 2; i < argc; i++) {
        restart |= !strcmp(argv[i], "restart");
        forks |= !strcmp(argv[i], "forks");
        disabled |= !strcmp(argv[i], "disabled");
    }
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    report("thread_multiple=%d", provided == MPI_THREAD_MULTIPLE);
    pthread_t thread;
    pid_t flooder = disabled ? 0 : start_storm(restart);
    if (forks)
        pthread_create(&thread, NULL, fork_on, NULL);
    for (int i = 0; i < atoi(argv[1]); i++) {
        take(0);
        if (disabled) {
            void *result;
            pthread_t spawner;
            pthread_create(&spawner, NULL, spawn_and_die, NULL);
            pthread_join(spawner, &result);
            cancelled += result == PTHREAD_CANCELED;
        } else {
            spawn();
        }
    }
    report("storm=%d SIGALRM, %d SIGINT, %d SIGCHLD, %d SIGWINCH", counts[SIGALRM], counts[SIGINT], counts[SIGCHLD],
           counts[SIGWINCH]);
    done = 1;
    if (forks)
        pthread_join(thread, NULL);
    report("forked=%d", forked);
    report("cancelled=%d", cancelled);
    report("working=");
    take(1); /* the storm goes on */
    if (flooder)
        end_storm(flooder);
    report("wrong=%d", wrong);
    MPI_Finalize();
    report("end=");
    return 0;
}
