/* A process that looks like a tritonserver, or like one of its stubs, and does nothing.
 *
 * What the kernel shows of a process is its file's name and its command line.  Started under the name of a
 * stub it waits to be killed, or exits with 0 at SIGUSR1.  Under any other name it takes commands on stdin, a line each, and answers each
 * with a line:
 *
 *   start <n>     then n lines: a path, and the words of a command line; forks a child that runs it: its pid
 *   pid <n>       the next child gets this pid, where nobody has it (needs a pid namespace of its own): 0
 *   reap <pid>    takes an exited child's status, as waitpid does: the pid, or 0 where it still runs
 *
 * At the end of its input it exits, and its children with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_WORDS = 64, LONGEST = 4096 };

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static char *line_of_input(void)
{
    static char line[LONGEST];
    if (!fgets(line, sizeof line, stdin))
        return NULL;
    line[strcspn(line, "\n")] = 0;
    return line;
}

static void leave(int signal)
{
    (void)signal;
    _exit(0);
}

static void be_a_stub(void)
{
    /* As the real one when its model is unloaded: its parent tells it through shared memory. */
    signal(SIGUSR1, leave);
    /* As the real one, which leaves its end to its parent. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    for (;;)
        pause();
}

static long started(int words)
{
    char *path = NULL, *argv[MOST_WORDS + 1] = { NULL };
    for (int at = -1; at < words; at++) {
        char *line = line_of_input();
        char *copy = line ? strdup(line) : NULL;
        if (!copy || words > MOST_WORDS)
            fail("a word is missing, or there are too many");
        if (at < 0)
            path = copy;
        else
            argv[at] = copy;
    }
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        execv(path, argv);
        _exit(127);
    }
    free(path);
    for (int at = 0; at < words; at++)
        free(argv[at]);
    return child;
}

static long next_pid(long pid)
{
    FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "w");
    if (!last || fprintf(last, "%ld", pid - 1) < 0 || fclose(last) != 0)
        return errno;
    return 0;
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    (void)argc;
    if (strcmp(name ? name + 1 : argv[0], "triton_python_backend_stub") == 0)
        be_a_stub();
    for (char *line; (line = line_of_input());) {
        long number = 0, answer = -1;
        if (sscanf(line, "start %ld", &number) == 1)
            answer = started((int)number);
        else if (sscanf(line, "pid %ld", &number) == 1)
            answer = next_pid(number);
        else if (sscanf(line, "reap %ld", &number) == 1)
            answer = waitpid((pid_t)number, NULL, WNOHANG);
        printf("%ld\n", answer);
        fflush(stdout);
    }
    return 0;
}
