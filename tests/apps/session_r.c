/* The words of session.R, over MPI: an extension of R's, called by `.C`. Its children are those of session.c. */
#define main shell
#include "session.c"

static MPI_Comm teams[16];
static int count;

/* Errors are returned, as Rmpi has it (mpi_initialize in its src/Rmpi.c). */
static void begin(void)
{
    int there;
    MPI_Initialized(&there);
    if (there)
        return;
    MPI_Init(NULL, NULL);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
}

/* Spawns the program shell, whose path this is. */
void r_spawn(char **path)
{
    begin();
    char *arguments[] = {"child", NULL};
    MPI_Comm_spawn(*path, arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &team, MPI_ERRCODES_IGNORE);
    MPI_Comm_set_errhandler(team, MPI_ERRORS_RETURN);
    teams[count++] = team;
    report("spawned=%d", (int)getpid());
}

/* Spawns children that never call MPI_Init. */
void r_hang(int *failed)
{
    begin();
    char *arguments[] = {"300", NULL};
    MPI_Comm none;
    report("hanging=");
    *failed = MPI_Comm_spawn("sleep", arguments, 2, MPI_INFO_NULL, 0, MPI_COMM_SELF, &none, MPI_ERRCODES_IGNORE) != MPI_SUCCESS;
}

static int word_for(const char *how)
{
    return !strcmp(how, "segv") ? CRASH : !strcmp(how, "abort") ? ABORT : EXIT;
}

/* Has the child crash, and waits for a word of it. */
void r_receive(char **how, int *failed)
{
    int word = word_for(*how);
    report("receiving=%s", *how);
    MPI_Send(&word, 1, MPI_INT, 0, 0, team);
    *failed = MPI_Recv(&word, 1, MPI_INT, 0, 0, team, MPI_STATUS_IGNORE) != MPI_SUCCESS;
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
    tell(word_for(*how));
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
