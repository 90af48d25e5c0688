/*
 * Sixteen threads that open files, fork and read numbered records from fd 0, while another thread spawns. Each record must
 * be read once, by someone, and nobody may ever find fd 0 to be anything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 16, SPAWNS = 3, RECORD = 8, RECORDS = 200000 };

static atomic_uchar seen[RECORDS];
static atomic_int done, changed, lost, opened, forked, taken;
static struct stat was;

static void report(const char *name, int value)
{
    FILE *file = fopen(getenv("APP_REPORT"), "ae");
    fprintf(file, "%s=%d\n", name, value);
    fclose(file);
}

static int is_as_it_was(void)
{
    struct stat is;
    return fstat(0, &is) == 0 && is.st_dev == was.st_dev && is.st_ino == was.st_ino;
}

/* One record of the file: seven digits and a newline. */
static int take(void)
{
    char record[RECORD + 1] = "";
    ssize_t count = read(0, record, RECORD);
    if (count == 0)
        return 0;
    int number = count == RECORD ? atoi(record) : -1;
    if (number < 0 || number >= RECORDS) {
        changed++;
    } else {
        seen[number]++;
        taken++;
    }
    return 1;
}

static void *work(void *unused)
{
    for (int round = 0; !done; round++) {
        if (!is_as_it_was())
            changed++;
        take();
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd == 0)
            changed++;
        close(fd);
        opened++;
        if (round % 16 == 0) {
            int status;
            pid_t pid = fork();
            if (pid == 0)
                _exit(is_as_it_was() ? 0 : 1);
            if (waitpid(pid, &status, 0) == pid && status != 0)
                changed++;
            forked++;
        }
        usleep(2000);
    }
    return unused;
}

static void *spawn(void *self)
{
    for (int i = 0; i < SPAWNS; i++) {
        MPI_Comm children;
        int code;
        char *argv[] = {"child", NULL};
        MPI_Comm_spawn(self, argv, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, &code);
        report("spawned", code);
        MPI_Barrier(children);
        MPI_Comm_disconnect(&children);
    }
    done = 1;
    return NULL;
}

int main(int argc, char **argv)
{
    int provided;
    MPI_Comm parent;
    fstat(0, &was);
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        MPI_Barrier(parent);
        MPI_Comm_disconnect(&parent);
        MPI_Finalize();
        return 0;
    }
    report("thread_multiple", provided == MPI_THREAD_MULTIPLE);
    pthread_t threads[THREADS + 1];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    pthread_create(&threads[THREADS], NULL, spawn, argv[0]);
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    report("taken_meanwhile", taken);
    while (take())
        ;
    for (int i = 0; i < RECORDS; i++)
        lost += seen[i] != 1;
    report("opened", opened);
    report("forked", forked);
    report("changed", changed);
    report("lost_or_doubled", lost);
    MPI_Finalize();
    return 0;
}
