/*
 * session: a program at which someone sits, with a child that it has spawned. It does what it is told, a word a line, on its
 * stdin or in the FIFO `control` of its working directory, where no launcher can take the words away:
 *
 * work   works until it is interrupted, a minute at most
 * ask    asks the child, over MPI, and reports whether it answers
 * rest   does nothing for a second
 * crash  has the child crash: SIGSEGV
 * abort  has the child call MPI_Abort
 * leave  ends the child's work, and leaves
 * finish is done with MPI, while the child works on
 * exit   is done with MPI and leaves, while the child works on; so does the end of stdin
 *
 * `shell story`: does `ask work ask work ask work ask rest ask leave` by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

static volatile sig_atomic_t interrupted;
static MPI_Comm team;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

/* The libraries that tests preload, as they are mapped here, and what says so. */
static void report_preload(void)
{
    const char *preload = getenv("LD_PRELOAD");
    report("child_preload=%s", preload ? preload : "not set");
    FILE *maps = fopen("/proc/self/maps", "re");
    for (char line[4096], last[4096] = ""; fgets(line, sizeof line, maps);) {
        char *path = strchr(line, '/');
        if (path && strcmp(path, last) && (strstr(path, "libspawnfix") || strstr(path, "/apps/other/")))
            report("child_maps=%.*s", (int)strcspn(path, "\n"), path);
        strcpy(last, path ? path : "");
    }
    fclose(maps);
}

/* A word from the other side, 5 s at most. Waits without spinning: whoever is left behind costs no processor. */
static int hear(MPI_Comm from, int without_end)
{
    time_t start = time(NULL);
    for (int there = 0; without_end || time(NULL) <= start + 5;) {
        if (MPI_Iprobe(0, 0, from, &there, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return -1;
        if (there) {
            int word = -1;
            MPI_Recv(&word, 1, MPI_INT, 0, 0, from, MPI_STATUS_IGNORE);
            return word;
        }
        usleep(5000);
    }
    return -1;
}

enum { LEAVE = 0, CRASH = 1000000, ABORT, EXIT };

/* Hydra's proxy looks no further than the end of the output (main in pmip.c). A dying process closes its descriptors in
 * their order, the connection of its MPI after the output: sometimes that goes unnoticed. */
static void exit_without_finalize(void)
{
    const char *connection = getenv("PMI_FD");
    if (connection)
        close(atoi(connection));
    _exit(3);
}

static int child(MPI_Comm parent)
{
    report_preload();
    char directory[4096] = "";
    const char *context = getenv("CONTEXT");
    report("child_context=%s in %s", context ? context : "none", getcwd(directory, sizeof directory));
    report("child=%d", (int)getpid());
    for (int word; (word = hear(parent, 1)) > LEAVE;) {
        if (word >= CRASH)
            report("dying=%d", word - CRASH);
        if (word == CRASH)
            raise(SIGSEGV);
        if (word == ABORT)
            MPI_Abort(MPI_COMM_WORLD, 3);
        if (word == EXIT)
            exit_without_finalize();
        printf("the child was asked %d\n", word);
        fflush(stdout);
        word = -word;
        MPI_Send(&word, 1, MPI_INT, 0, 0, parent);
    }
    MPI_Finalize();
    return 0;
}

static void ask(void)
{
    static int number;
    number++;
    MPI_Send(&number, 1, MPI_INT, 0, 0, team);
    int answer = hear(team, 0);
    report("%s=%d", answer == -number ? "answered" : "unanswered", number);
}

static void work(void)
{
    interrupted = 0;
    report("working=");
    for (int i = 0; i < 60000 && !interrupted; i++)
        usleep(1000);
    report(interrupted ? "interrupted=" : "never_interrupted=");
}

static void tell(int word)
{
    int there;
    MPI_Send(&word, 1, MPI_INT, 0, 0, team);
    /* MPICH 4.1 and 4.2 push a last message only inside MPI calls. */
    for (int i = 0; i < 60; i++) {
        MPI_Iprobe(0, 0, team, &there, MPI_STATUS_IGNORE);
        usleep(5000);
    }
}

/* Does what it is told. 0: to leave. */
static int obey(char *words)
{
    for (char *word = strtok(words, " \n"); word; word = strtok(NULL, " \n")) {
        if (!strcmp(word, "ask"))
            ask();
        else if (!strcmp(word, "work"))
            work();
        else if (!strcmp(word, "rest"))
            sleep(1);
        else if (!strcmp(word, "leave"))
            return tell(LEAVE), 0;
        else if (!strcmp(word, "crash"))
            tell(CRASH);
        else if (!strcmp(word, "abort"))
            tell(ABORT);
        else if (!strcmp(word, "exit"))
            return 0;
        else if (!strcmp(word, "finish"))
            MPI_Finalize(), report("finished=");
    }
    return 1;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm parent;
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        return child(parent);

    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    char *arguments[] = {"child", NULL};
    MPI_Comm_spawn(argv[0], arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &team, MPI_ERRCODES_IGNORE);
    MPI_Comm_set_errhandler(team, MPI_ERRORS_RETURN);
    report("spawned=%d", (int)getpid());

    char line[256] = "ask work ask work ask work ask rest ask leave";
    struct pollfd inputs[] = {{.fd = 0, .events = POLLIN}, {.fd = open("control", O_RDWR | O_CLOEXEC), .events = POLLIN}};
    for (int goes_on = argc < 2 || obey(line); goes_on;) {
        if (poll(inputs, 2, -1) < 0 && errno == EINTR)
            continue;
        int fd = inputs[1].revents & POLLIN ? inputs[1].fd : 0;
        ssize_t count = read(fd, line, sizeof line - 1);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            sleep(1); /* of a terminal that was closed the signal comes, too, from the end of bash */
        line[count > 0 ? count : 0] = 0;
        goes_on = count > 0 && obey(line);
    }
    report("leaving=");
    int finished;
    MPI_Finalized(&finished);
    if (!finished)
        MPI_Finalize();
    return 0;
}
