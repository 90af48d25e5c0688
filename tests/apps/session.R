# What someone has at hand in R: the same as session.py.

dyn.load(Sys.getenv("SESSION_R"))

report <- function(name, value = "")
    cat(name, "=", value, "\n", sep = "", file = Sys.getenv("APP_REPORT"), append = TRUE)

spawn <- function() invisible(.C("r_spawn", Sys.getenv("APP_CHILD")))
ask <- function() invisible(.C("r_ask"))
use <- function(which) invisible(.C("r_use", as.integer(which)))
crash <- function(how) invisible(.C("r_crash", how))
leave <- function() invisible(.C("r_leave"))

receive <- function(how) if (.C("r_receive", how, 0L)[[2]]) report("lost", "an MPI error")
hang <- function() {
    failed <- 0L
    came <- tryCatch({
        failed <- .C("r_hang", failed)[[1]]
        Sys.sleep(0.1) # here at the latest R sees the interrupt
        "no interrupt"
    }, interrupt = function(condition) "interrupt")
    report("got_out", paste0(came, ", ", if (failed) "an MPI error" else "no MPI error"))
}

work <- function()
    tryCatch({
        report("working")
        for (i in 1:60000) Sys.sleep(0.001)
        report("never_interrupted")
    }, interrupt = function(condition) report("interrupted"))

story <- function() {
    spawn()
    ask()
    for (time in 1:3) {
        work()
        ask()
    }
    Sys.sleep(1)
    ask()
    leave()
}

# Leaves in good order, or without a word to MPI.
bye <- function() {
    .C("r_finalize")
    q("no")
}
quit_at_once <- function() q("no", runLast = FALSE)
