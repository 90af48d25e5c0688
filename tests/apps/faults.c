/*
 * faults: a program that reads a line, spawns one child, hears from it, and reads on until "end". It never waits in MPI for
 * anyone: whoever it would wait for may have been killed. It ends without MPI_Finalize, so that its child ends with it.
 */
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

int main(int argc, char **argv)
{
    (void)argc;
    char text[256];
    struct termios was, is;
    int flags = fcntl(0, F_GETFL), code, class = 0;
    struct stat file, now;
    MPI_Comm parent, children;

    if (!getenv("PMI_FD") && !getenv("PMI_PORT")) { /* not the child */
        memset(&was, 0, sizeof was);
        memset(&is, 0, sizeof is);
        tcgetattr(0, &was);
        fstat(0, &file);
        line(text, sizeof text);
    }
    MPI_Init(NULL, NULL);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        return child(parent);

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    report("spawning=%d", (int)getpid());
    code = MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
    if (code != MPI_SUCCESS)
        MPI_Error_class(code, &class);
    report("spawned=%d", class);
    report("heard=%s", code == MPI_SUCCESS ? hear(children) : "nobody");
    while (line(text, sizeof text) && strcmp(text, "end\n"))
        ;
    tcgetattr(0, &is);
    report("terminal=%s", memcmp(&was, &is, sizeof was) ? "changed" : "same");
    report("flags=%s", fcntl(0, F_GETFL) == flags ? "same" : "changed");
    report("stdin=%s", fstat(0, &now) == 0 && now.st_ino == file.st_ino && now.st_rdev == file.st_rdev ? "same" : "lost");
    report("end=");
    _exit(0);
}
