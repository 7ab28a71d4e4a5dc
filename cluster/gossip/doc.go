// Package gossip finds the agents of a cluster: servers and nodes that share
// one memberlist, each with a few tags that say who it is and where it is
// reached. memberlist is hidden behind it.
//
// Gossip discovers and suspects; it decides nothing. A member shown as dead may
// be alive behind a slow link, and one shown as alive may have died within the
// last second: who acts on a change asks the member itself first.
//
// # Figures
//
// The defaults (see [Timing]) are for a LAN. A member killed at a random moment
// is picked by some prober within about half a probe interval (0.15 s), found
// silent after one more (0.3 s), and dead when the suspicion has lasted twice the
// interval (0.6 s): about 1.05 s. Measured with 2, 3, 5 and 10 members on a busy
// two-core machine, eight kills each: medians 1.1 to 1.3 s, the extremes 0.9 and
// 1.6 s. The suspicion grows with the logarithm of the number of members: from
// 0.6 s for up to ten to 1.8 s for a thousand. SuspicionMult is 2, which asks for no
// confirmation by a third member: false alarms come cheap here, because a lease
// or a direct call confirms each, and late alarms do not.
package gossip
