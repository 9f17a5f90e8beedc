"""What tests share. Tests themselves import from here, from `conftest.py`, and from no other folder of tests.

What a test of one room needs:
    hub, worker_bench, clock
                           a hub in a thread of its own, and workers on it; a clock that the test winds
    resolver               a resolver that answers what the test says, or nothing for a while
    socket_pairs, channels, inbox
                           connected sockets; the same with a channel of l7 on one side; bytes that are offered to
                           a core again and again
    tables, hellos, hello_reference, geoip_files, certificate_files, odd_certificates
                           values and files of every shape, right and wrong
    drive_stage, lined_stage, pool_stage, tls_gate
                           one l7 session on real sockets, and a pool of connections to a backend
    relay_playbook, http2_direct, bridge_playbook, lanes, exchange_ends, noted_exchange
                           the relay and the bridge in memory, by a script; an exchange between ends of no HTTP
    fault_rows, fault_plays, fault_sites
                            every fault of a peer, an input for it, and where the code makes it

The program, as it is run:
    program, proxy         `mcproxy server` as a process; an `App` in this one
    crowd                  worker processes without a control plane
    link, l7_proxy         clients and backends with a proxy between them, for l4 and for l7
    control_plane, admin_stub, admin_calls, apply_requests
                           the admin API, with a data plane that only remembers or with the real one
    commands, operator_terminal, screen, hostile_server
                           commands in this process, on a terminal with a person, and what they draw
    pebble, ca_relay, acme_scene, acme_stub
                           an ACME server, what may change its answers, and the proxy before it; a CA in memory for the
                           keeper of certificates
    postgres, fleet_nodes, commit_cutter
                           a PostgreSQL server of the tests' own, nodes of a fleet in this process, and a relay that
                           cuts a connection at a commit
    costs                  system calls and functions for one connection or request; records them
    network                hosts with a wire between them, which can be cut
    service_manager        a notification socket, and listening sockets that are passed on
    systemd                a real one, in namespaces of its own

Clients and backends:
    peers, pace            blocking sockets with a deadline everywhere, and `until`; slow senders and readers
    http2_peer, http2_backends
                           HTTP/2 by hand, and the servers that people run
    http1_backends, apps   one application on the servers of HTTP/1.1 that people run
    key_updates            floods of TLS 1.3 KeyUpdates
    verdicts               what becomes of a client, as the client sees it and as its line says
    visitors, restarts, upgrades, killed_writer, killed_workers, killed_orders, fleet_faults, flooder
                           programs that connect, restart and kill again and again, or hold connections
    heirs                  servers that take over and fail half-way

Cases:
    conformance_frames, conformance_messages
                           RFC 9113, section by section
    request_rules          the same request in HTTP/1.1 and in HTTP/2, and what must become of both
    mirror, mirror_cases   messages of every form, directly and through the proxy

mcproxy beside other programs (tests/e2e/test_differences.py):
    differ                 runs all cases through all programs; the table
    differ_peers           HAProxy, nginx, Caddy and mcproxy, with the same routes and timeouts
    differ_client, differ_backend
                           sends bytes and says what becomes of them; records what arrives
    differ_case, differ_cases, differ_http1_cases, differ_http2_cases
                           the bytes, and why each is worth sending

Pages that are typed:
    pages, runbook_machine, host, systemctl
                           what README, RUNBOOK and docs/ say to type, and the machines on which it is typed
    json_page              the examples of docs/json.md
"""
