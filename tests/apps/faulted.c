/*
 * faults: a program that reads a line, spawns one child, hears from it, and reads on until "end". It never waits in MPI for
 * anyone: whoever it would wait for may have been killed. It ends without MPI_Finalize, so that its child ends with it.
 *
 * FAULT_ROOM  for how many more descriptors there is room as it spawns; unset: for as many as there is
 *
 * faults kept: is to that program what a shell is. It runs it in a process group of its own, in the terminal's foreground,
 * waits for its end, however that comes, takes the terminal back, tells whether all is as it was, and reads on until "done".
 */
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "report.h"

/* Byte by byte: nothing is read ahead. 0: the input ended, or reading it failed. */
static int line(char *text, size_t size)
{
    size_t length = 0;
    while (length < size - 1 && read(0, text + length, 1) == 1)
        if (text[length++] == '\n')
            break;
    FILE *file = fopen(getenv("APP_READ"), "ae");
    if (!file || fwrite(text, 1, length, file) != length || fclose(file))
        abort();
    text[length] = 0;
    return length > 0 && text[length - 1] == '\n';
}

static int child(MPI_Comm parent)
{
    int word = 42, flag;
    MPI_Request request;
    MPI_Isend(&word, 1, MPI_INT, 0, 0, parent, &request);
    for (int i = 0; i < 3000; i++) { /* killed by then */
        MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
        MPI_Iprobe(0, 1, parent, &flag, MPI_STATUS_IGNORE);
        usleep(10000);
    }
    return 1;
}

/* Whether the child's message comes. */
static const char *hear(MPI_Comm children)
{
    int word = 0, flag = 0;
    MPI_Request request;
    MPI_Comm_set_errhandler(children, MPI_ERRORS_RETURN);
    if (MPI_Irecv(&word, 1, MPI_INT, 0, 0, children, &request) != MPI_SUCCESS)
        return "error";
    for (int i = 0; i < 1000 && !flag; i++) {
        if (MPI_Test(&request, &flag, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return "error";
        usleep(5000);
    }
    return word == 42 ? "yes" : "no";
}

/* fd 0, and the terminal that it is. */
static struct seen {
    int flags;
    struct stat file;
    struct termios terminal;
} seen;

static void look(void)
{
    memset(&seen, 0, sizeof seen);
    seen.flags = fcntl(0, F_GETFL);
    fstat(0, &seen.file);
    tcgetattr(0, &seen.terminal);
}

static void look_again(const char *whose)
{
    struct seen was = seen;
    look();
    report("%sterminal=%s", whose, memcmp(&was.terminal, &seen.terminal, sizeof was.terminal) ? "changed" : "same");
    report("%sflags=%s", whose, was.flags != seen.flags ? "changed" : "same");
    int same = was.file.st_ino == seen.file.st_ino && was.file.st_rdev == seen.file.st_rdev;
    report("%sstdin=%s", whose, same ? "same" : "lost");
}

/* Takes all descriptors but so many, and gives them back. */
static int first = -1, last = -1;

static void crowd(const char *room)
{
    struct rlimit limit = {256, 256};
    int fd;
    if (!room)
        return;
    setrlimit(RLIMIT_NOFILE, &limit);
    first = dup(1);
    while ((fd = dup(1)) >= 0)
        last = fd;
    for (fd = atoi(room); fd > 0; fd--)
        close(last--);
}

static void disperse(void)
{
    for (; first >= 0 && last >= first; last--)
        close(last);
}

static int keep(char *file)
{
    char text[256];
    int status;
    look();
    signal(SIGTTOU, SIG_IGN); /* in the background, it takes the terminal back */
    pid_t program = fork();
    if (program == 0) {
        setpgid(0, 0);
        tcsetpgrp(0, getpid());
        signal(SIGTTOU, SIG_DFL);
        execl(file, file, NULL);
        _exit(127);
    }
    if (program < 0 || waitpid(program, &status, 0) != program)
        abort();
    tcsetpgrp(0, getpgrp());
    look_again("keepers_");
    report("ended=%s %d", WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    while (line(text, sizeof text) && strcmp(text, "done\n"))
        ;
    return 0;
}

int main(int argc, char **argv)
{
    char text[256];
    int code, class = 0;
    MPI_Comm parent, children;

    if (argc > 1)
        return keep(argv[0]);
    if (!getenv("PMI_FD") && !getenv("PMI_PORT")) { /* not the child */
        look();
        line(text, sizeof text);
    }
    MPI_Init(NULL, NULL);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        return child(parent);

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    report("spawning=%d", (int)getpid());
    crowd(getenv("FAULT_ROOM"));
    code = MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
    disperse();
    if (code != MPI_SUCCESS)
        MPI_Error_class(code, &class);
    report("spawned=%d", class);
    report("heard=%s", code == MPI_SUCCESS ? hear(children) : "nobody");
    while (line(text, sizeof text) && strcmp(text, "end\n"))
        ;
    look_again("");
    report("end=");
    _exit(0);
}
