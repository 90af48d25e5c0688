/* exec ROUNDS VARIABLES ARGUMENTS LIBRARY...: runs /bin/true ROUNDS times without a library and under each one, in another
   order each round, with so many environment variables and arguments. For each library, in the order given, one line: the
   medians over the rounds of what it added to the processor time and to the elapsed time, in microseconds. The first
   line, for no library, has the times themselves.

   Processor time (user and system, of the process alone) is what counts on a machine that others use too. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

/* What ran before a case leaves caches behind, so that no case may always come after the same one. */
static void shuffle(int *order, int count)
{
    for (int i = count - 1; i > 0; i--) {
        int other = rand() % (i + 1), last = order[i];
        order[i] = order[other];
        order[other] = last;
    }
}

static int run_true(char **words, char **environment, struct rusage *usage)
{
    int status = -1;
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/bin/true", words, environment);
        _exit(127);
    }
    wait4(pid, &status, 0, usage);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int rounds = atoi(argv[1]), variables = atoi(argv[2]), arguments = atoi(argv[3]), cases = argc - 3;
    double *cpu = calloc((size_t)cases * rounds, sizeof *cpu), *wall = calloc((size_t)cases * rounds, sizeof *wall);
    char **environment = calloc(variables + 2, sizeof *environment), **words = calloc(arguments + 2, sizeof *words);
    for (int i = 0; i < variables; i++)
        if (asprintf(&environment[i + 1], "VARIABLE_%d=a value of the usual length", i) < 0)
            return 1;
    int *order = calloc(cases, sizeof *order);
    for (int i = 0; i < cases; i++)
        order[i] = i;
    words[0] = "true";
    for (int i = 1; i <= arguments; i++)
        words[i] = "argument";
    for (int round = 0; round < rounds; round++) {
        shuffle(order, cases);
        for (int turn = 0; turn < cases; turn++) {
            int i = order[turn];
            environment[0] = "NO_PRELOAD=";
            if (i > 0 && asprintf(&environment[0], "LD_PRELOAD=%s", argv[3 + i]) < 0)
                return 1;
            struct rusage usage;
            double start = now();
            int status = run_true(words, environment, &usage);
            wall[i * rounds + round] = now() - start;
            cpu[i * rounds + round] = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec +
                                      usage.ru_stime.tv_usec;
            if (status != 0) {
                fprintf(stderr, "exec: /bin/true under %s: wait status %d\n", i > 0 ? argv[3 + i] : "nothing", status);
                return 1;
            }
            if (i > 0)
                free(environment[0]);
        }
    }
    for (int i = cases - 1; i > 0; i--)
        for (int round = 0; round < rounds; round++) {
            wall[i * rounds + round] -= wall[round];
            cpu[i * rounds + round] -= cpu[round];
        }
    for (int i = 0; i < cases; i++)
        printf("%.1f %.1f\n", median(cpu + i * rounds, rounds), median(wall + i * rounds, rounds));
    return 0;
}
