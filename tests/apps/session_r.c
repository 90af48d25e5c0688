/* The words of session.R, over MPI: an extension of R's, called by `.C`. Its children are those of session.c. */
#define main shell
#include "session.c"

static MPI_Comm teams[16];
static int count;

/* Spawns the program shell, whose path this is. */
void r_spawn(char **path)
{
    int there;
    MPI_Initialized(&there);
    if (!there)
        MPI_Init(NULL, NULL);
    char *arguments[] = {"child", NULL};
    MPI_Comm_spawn(*path, arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &team, MPI_ERRCODES_IGNORE);
    MPI_Comm_set_errhandler(team, MPI_ERRORS_RETURN);
    teams[count++] = team;
    report("spawned=%d", (int)getpid());
}

void r_ask(void)
{
    ask();
}

/* Turns to an older child. */
void r_use(int *which)
{
    team = teams[*which];
}

void r_crash(char **how)
{
    tell(!strcmp(*how, "segv") ? CRASH : !strcmp(*how, "abort") ? ABORT : EXIT);
    report("crashed=%s", *how);
}

void r_leave(void)
{
    tell(LEAVE);
    report("leaving=");
}

void r_finalize(void)
{
    MPI_Finalize();
}
