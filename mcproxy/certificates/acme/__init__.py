"""Certificates that look after themselves: ordered and renewed by ACME (RFC 8555), validated by TLS-ALPN-01 (RFC 8737).

An SNI router is a natural responder for that challenge: the CA connects to port 443 with the route's name and the
protocol acme-tls/1, which no browser offers. Only exact names of l7 routes with tls = "acme" are ever ordered.

**An order's states** (`order.State`), and what is in the database before anything happens outside:

    state        means                                  durable first             goes on to
    waiting      nothing is under way until `next_at`   why the last try failed   ordering; or, of an order that is
                                                                                  still open at the CA, validating
    ordering     the CA is asked for an order           the new key, the start    validating; waiting
    validating   the challenge can be answered          the order's URL, then     issuing; waiting
                                                        the answer
    issuing      the CA has the request                 the state                 waiting, with the certificate

The certificate, its key and `waiting` for the renewal are one transaction, and then the data path has it. So a process
that is killed goes on with the same order: its URL and the key are there. Only a start that was cut off between the
CA's answer and the row leaves an order behind that nobody knows; it counts as a failed try, so that a crash loop
doesn't order again and again. An order that the CA has lost is no failed try, the first time: another one is made. Nor
is one whose validation was under way when the process began, and failed, once an hour: nobody may have answered the CA
meanwhile. A challenge is answered until its order has ended, since a CA may look more than once; a new process answers
it before it listens, and has the CA look only if it isn't looking.

**Who does what.** One native thread (`keeper.py`), of the process that owns the database, asks the CA (`ca.py`), one
request after the other; names take turns, so that fifty orders are under way together. Nothing waits for it: no start,
no connection, no mutation. It hands a worker what it needs for a name as one frozen value (`order.Kept`). Any worker
answers a challenge, from a context of its own (`contexts.py`).

**In a fleet** the rows are the fleet's. One node has a keeper; all nodes, that one too, hand their workers what they
read in the rows (`fleet/orderer.py`). So the keeper has the CA look only when every living node has the answer.

**What is bounded.** Orders an hour over all names (`keeper.ORDERS_AN_HOUR`). A name that failed waits ten minutes, then
twice as long each time, a day at most; a CA that can't be asked, or that refuses the account, is left alone as a whole
for 15 seconds to an hour, and no name's tries are used up. Retry-After is obeyed in both. An order that the CA doesn't
decide within `course.MAX_ORDER` has failed. No certificate is renewed within a day of its order, or a tenth of its
lifetime, whatever the CA and this machine's clock say.

**Another CA.** A waiting order has the directory of its certificate's CA. Where [acme] names another one, the
certificate is replaced at once: it may be of a CA for trials. It serves until then.

**The account.** A CA that doesn't know it gets the same key again; one that no longer takes it, as it says itself, gets
a new one. Its orders are gone with it, which is no failed try. The address in [acme] is
given to the CA before the first order after a start or a reload.
"""
