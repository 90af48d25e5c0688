/* execvp ARGUMENTS: the time of one execvp, in nanoseconds, with so many arguments, of a file that does not exist and is no
   launcher. It is the median of 200 times 100 calls. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    enum { TIMES = 200, CALLS = 100 };
    static double times[TIMES];
    int arguments = argc > 1 ? atoi(argv[1]) : 1;
    char **words = calloc(arguments + 2, sizeof *words);
    for (int i = 0; i <= arguments; i++)
        words[i] = "argument";
    for (int i = 0; i < TIMES; i++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int j = 0; j < CALLS; j++)
            execvp("/no/such/file", words);
        clock_gettime(CLOCK_MONOTONIC, &end);
        times[i] = ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / CALLS;
    }
    qsort(times, TIMES, sizeof *times, ascending);
    printf("%.0f\n", times[TIMES / 2]);
    return 0;
}
