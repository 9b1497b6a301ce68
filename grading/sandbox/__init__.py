"""Where untrusted code runs. Who talks to whom, for one submission:

    the grader (grading.grade)                 holds tests, answers and grades; runs nothing
      |                                        of a student's, imports and unpickles nothing
      |  client.Forkserver: "fork one"
      v
    forkserver                                 a fresh interpreter, started before the grader has
      |                                        read a secret; torch and lib are imported, so that a
      |                                        fork costs milliseconds and not seconds
      |  isolation.Jail.fork
      v
    supervisor                                 in new namespaces; waits, and kills at the end
      |
      v
    sandboxed process                          the student's cells and functions (namespace), with
                                               no network, no /proc, no rights, a read-only root

The grader and the sandboxed process speak through one socket: plain data as JSON lines, never a
pickle (protocol). The grader asks "run this cell" or "call this function with these arguments";
what comes back is checked for size, depth and type: a hostile process may write what it likes.
The grader holds one end of a pipe, the lifeline. When it lets go, or dies, the supervisor ends the
sandboxed process and all that it started.

What can be imported there holds no answer to an exercise (withheld).

``doctor`` tries out what of this holds on a machine. Left out: protection against a fault of the
kernel itself, and of the processor.

What a student can learn of a hidden test (grading.grade runs the visible checks first, in a process
of their own, and makes every other text there) is at most, for each test, whether it passes and
which of its author's sentences tells why not: with s sentences log2(s + 5) bits, about 3. Between
processes nothing else is shared but the machine: no file, no lock, no process number, no memory.
What an accomplice who is graded later, or the same student who hands in again, may still measure:

- The page cache. A page of a library that nothing else reads is in memory or not: one bit for each
  such page, and there are some hundred thousand.
- The load and the free memory of the machine, while the two are graded at the same time: a few bits
  a second, with noise.

Who fears that grades a class once, after the last date, and shows nobody a result before.
"""
