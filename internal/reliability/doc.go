// Package reliability measures how sidecert fares when things go wrong around it. It has tests only: they run the real binary, built with
// the Dockerfile's flags, beside Pebble and, for comparison, Debian's certbot, and print the figures that we publish. Those of certbot
// are printed and never make a test fail; ours do.
//
// What a kill or a full disk leaves behind, at each change of a file in a first issue and in a renewal, under strace:
//
//	SWEEP=full go test -run Strace -v -parallel 4 -timeout 60m ./internal/reliability
//
// Each point has a name, and so a lineage and an account, of its own. The program meets one fault: SIGKILL before the call, or ENOSPC
// from it. It is then started again as a person would, in the renewal first without force. What counts:
//
//   - wrong for good: the files in live/ are not one whole new version that the CA has signed, or another lineage stands beside it;
//   - certificates too many: the CA issued more than the one that was asked for, counted at the CA;
//   - accounts too many: the CA made more than one account, counted there too;
//   - torn until the next start: in a renewal, what was live after the fault was no pair that a web server can load.
//
// A point is known by the number of changes before it. strace counts calls for each thread by itself, so a Go program cannot be aimed at
// like certbot: a fault may strike elsewhere than was meant, and is judged where it struck, each position once. A point where the fault
// struck nothing does not count. Without SWEEP a sample of the points is tried, evenly spread.
//
// Whether a web server ever shows anything but a valid certificate, while certificates of a minute are renewed by a daemon that is killed
// each minute and in the middle of orders, at a CA that refuses 20 % of the nonces:
//
//	SOAK=20m go test -run Soak -v -timeout 30m ./internal/reliability
//
// A look is one TLS handshake and one loading of the files, each second. SOAK is 1m if unset, with a kill every 10 s.
//
// What becomes of a renewal where a real web server in a real engine meets a fault, on each way to the engine, as a table:
//
//	go test -run Matrix -v ./internal/reliability
//
// A cell is as it should be if sidecert finds the container, tells it and says of it what the table in matrix_test.go wants, and if a client
// that trusts the CA is shown what it wants. The store is the real one, on disk; a second look comes a minute later by sidecert's clock.
//
// Whether what sidecert reports as served is served, while web containers in a real engine, its socket and the daemon itself meet a random
// fault around each renewal:
//
//	SERVED=200 go test -run NothingIsReported -v ./internal/reliability
//
// SERVED is 60 if unset; SEED repeats the choice of the faults, though not their very moments.
package reliability
