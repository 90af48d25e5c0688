/* A program of unknown_mpi.c: unknown [multiple] [cloexec] [flags] [fail]. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *Handle;

int MPI_Comm_spawn(const char *, char **, int, Handle, int, Handle, Handle *, int *);
int MPI_Comm_spawn_multiple(int, char **, char ***, const int *, const Handle *, int, Handle, Handle *, int *);

static int descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int multiple = 0, fail = 0;
    char bytes[3];
    for (int i = 1; i < argc; i++) {
        multiple |= !strcmp(argv[i], "multiple");
        fail |= !strcmp(argv[i], "fail");
        if (!strcmp(argv[i], "cloexec"))
            fcntl(0, F_SETFD, FD_CLOEXEC);
        if (!strcmp(argv[i], "flags"))
            fcntl(0, F_SETFL, O_APPEND | O_NONBLOCK);
    }
    int closed = fcntl(0, F_GETFD) < 0;
    int kept = closed ? -1 : fcntl(0, F_DUPFD_CLOEXEC, 100);
    int open_before = descriptors(), fd_flags = fcntl(0, F_GETFD), status_flags = fcntl(0, F_GETFL);
    if (!closed && read(0, bytes, sizeof bytes) != sizeof bytes)
        return 1;

    Handle children = NULL;
    int codes[] = {-1, -1, -1, -1}, rc;
    char *first[] = {"one", NULL}, *second[] = {"two", NULL};
    if (multiple) {
        char *commands[] = {"left", "right"}, **argvs[] = {first, second};
        int counts[] = {fail ? 1 : 0, 2};
        Handle infos[] = {(Handle)(uintptr_t)0xfedcba9876543210, (Handle)(uintptr_t)0x8000000000000001};
        rc = MPI_Comm_spawn_multiple(2, commands, argvs, counts, infos, 5, (Handle)(uintptr_t)0x123456789abcdef0, &children,
                                     codes);
    } else {
        rc = MPI_Comm_spawn("left", first, fail ? 3 : 0, (Handle)(uintptr_t)0xfedcba9876543210, 5,
                            (Handle)(uintptr_t)0x123456789abcdef0, &children, codes);
    }

    /* All is seen before the report is opened, which may get the number 0. */
    int fd_flags_now = fcntl(0, F_GETFD), status_flags_now = fcntl(0, F_GETFL), open_now = descriptors();
    FILE *report = fopen(getenv("APP_REPORT"), "ae");
    fprintf(report, "returned=%d %p %d %d %d %d\n", rc, children, codes[0], codes[1], codes[2], codes[3]);
    fprintf(report, "fd_flags=%s\n", fd_flags_now == fd_flags ? "as before" : "changed");
    fprintf(report, "status_flags=%s\n", status_flags_now == status_flags ? "as before" : "changed");
    fprintf(report, "closed=%s\n", fd_flags_now < 0 ? "yes" : "no");
    fprintf(report, "cloexec=%d\n", fd_flags_now);
    fprintf(report, "descriptors=%s\n", open_now == open_before ? "as before" : "changed");
    if (!closed) {
        /* One description: a status flag that is set through one descriptor shows through the other. */
        fcntl(0, F_SETFL, status_flags ^ O_APPEND);
        fprintf(report, "same_stdin=%s\n", fcntl(kept, F_GETFL) == (status_flags ^ O_APPEND) ? "yes" : "no");
        fprintf(report, "rest=");
        for (int i = 0; i < 3 && read(0, bytes, 1) == 1; i++)
            fputc(bytes[0], report);
        fputc('\n', report);
    }
    fclose(report);
    return 0;
}
