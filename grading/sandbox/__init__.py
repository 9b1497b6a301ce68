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

``doctor`` tries out what of this holds on a machine. Left out: protection against a fault of the
kernel itself, and of the processor.
"""
