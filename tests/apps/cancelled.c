/* cancelled deep: a thread is cancelled a thousand frames down.
   cancelled spawn: one is cancelled in an MPI_Comm_spawn that waits for its launcher.
   cancelled pending: one is cancelled while its MPI_Comm_spawn fails, and dies of it later. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int MPI_Comm_spawn(const char *, char **, int, void *, int, void *, void *, int *);

static int cleaned;
static volatile int there;

static void clean(void *unused)
{
    (void)unused;
    cleaned++;
}

static void deep(int frames)
{
    pthread_cleanup_push(clean, NULL);
    if (frames > 1)
        deep(frames - 1);
    there = 1;
    pause();
    pthread_cleanup_pop(0);
}

static void *run_deep(void *unused)
{
    (void)unused;
    deep(1000);
    return NULL;
}

static void *run_spawn(void *unused)
{
    void *children;
    (void)unused;
    pthread_cleanup_push(clean, NULL);
    there = 1;
    MPI_Comm_spawn("child", NULL, 1, NULL, 0, NULL, &children, NULL);
    pthread_cleanup_pop(0);
    return NULL;
}

extern void (*mpi_error_handler)(void);

static void cancel_this_thread(void)
{
    pthread_cancel(pthread_self());
}

static void *run_pending(void *unused)
{
    void *children;
    (void)unused;
    mpi_error_handler = cancel_this_thread;
    pthread_cleanup_push(clean, NULL);
    MPI_Comm_spawn("child", NULL, 1, NULL, 0, NULL, &children, NULL);
    there = 1;
    pause();
    pthread_cleanup_pop(0);
    return NULL;
}

int main(int argc, char **argv)
{
    struct stat before, after;
    pthread_t thread;
    void *result;
    char line[100];

    fstat(0, &before);
    int pending = !strcmp(argv[argc - 1], "pending");
    int spawn = !strcmp(argv[argc - 1], "spawn");
    pthread_create(&thread, NULL, pending ? run_pending : spawn ? run_spawn : run_deep, NULL);
    if (!pending) {
        while (!there)
            usleep(1000);
        usleep(300000); /* by then it waits in accept */
        pthread_cancel(thread);
    }
    pthread_join(thread, &result);
    printf("%s; cleaned up: %d\n", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled", cleaned);
    printf("stdin is %s\n", !fstat(0, &after) && before.st_ino == after.st_ino ? "as it was" : "another");
    printf("read: %s", fgets(line, sizeof line, stdin) ? line : "nothing\n");
    return 0;
}
