// Selftest tries what the lab promises, with VMware's own client library and a running lab.
//
//	selftest --lab BINARY --images DIR --golden FILE --dir SCRATCH
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

type check struct {
	name string
	run  func(*bench) error
}

var checks = []check{
	{"the certificate is trusted by file and by fingerprint", identityIsTrusted},
	{"the inventory is what the spec says", inventoryIsAsSpecified},
	{"the configuration around a vm is what the spec says", configurationIsAsSpecified},
	{"a snapshot is the disk of one instant under a writer", freezeIsOneInstant},
	{"quiescing happens only where tools run", quiesceNeedsTools},
	{"snapshots name files as vsphere does", snapshotsNameFiles},
	{"changed areas cover what changed and page", changedAreasCover},
	{"change ids of another life are refused", foreignChangeIdsFail},
	{"maps lie as asked and the lies are known", mapsLie},
	{"maps are odd as asked", mapsAreOdd},
	{"disks grow, and hosts forget it", disksGrow},
	{"reverts end tracking, or silently do not", revertsLoseTracking},
	{"storage vmotion renames files and keeps uuids", vmotionKeepsUUIDs},
	{"a sparse disk of 40 gib is frozen and mapped fast", bigDisksAreCheap},
	{"quiescing goes as the guest does", quiescingGoesAsTheGuestDoes},
	{"scripts run around the freeze", scriptsRunAroundTheFreeze},
	{"guests run programs and move files", guestsRunPrograms},
	{"privileges are enforced", privilegesAreEnforced},
	{"removals are slow, vanish and leave deltas as asked", removalsGoAsAsked},
	{"VMs change their host as asked", hostsSwitch},
	{"snapshots are as old as asked", snapshotsAreOld},
	{"datastores have the space that is asked", spaceIsSet},
	{"properties come in pages", propertiesPage},
	{"sessions end by logout, by force and by idling", sessionsEnd},
	{"a running disk is locked and a stopped one is not", lockFollowsPower},
	{"a vm can be made, filled, started and destroyed", vmIsMadeAndFilled},
	{"names are unique within a folder only", namesAreUniquePerFolder},
	{"faults strike as asked", faultsStrike},
	{"reads lie as asked", readsLie},
	{"consolidation clears its flag unless stuck", consolidationClears},
	{"two snapshot tasks do not overlap", snapshotTasksDoNotOverlap},
	{"fastlz blocks are fastlz", fastlzIsFastlz},
	{"nfc tickets are for one disk on one host", nfcTicketsAreRight},
	{"nfc reads are exact in any order", nfcReadsAreExact},
	{"nfc refuses what vsphere refuses", nfcRefuses},
	{"nfc writes arrive", nfcWritesArrive},
	{"nfc is byte for byte what the golden sessions have", nfcIsByteForByte},
	{"nfc takes all that the protocol leaves open", nfcIsLenient},
	{"nfc says what does not fit before it ends", nfcSaysWhatDoesNotFit},
	{"nfc faults strike as asked", nfcFaultsStrike},
	{"nfc budgets hold and time passes", nfcBudgetsHold},
	{"a proxy reads frozen disks that it attaches", proxyReads},
	{"a proxy writes disks that nothing else has", proxyWrites},
	{"reconfigures of a proxy are refused as on vsphere", proxyRefuses},
	{"destroying an attached disk deletes its file", proxyDestroys},
	{"devices appear late or when looked for", devicesAppear},
	{"loop devices go with the lab", loopsGo},
	{"mounts show what snapshots froze", mountsShowFrozen},
	{"children may be deltas", childrenAreDeltas},
	{"the lab ends with its parent", labEndsWithParent},
}

func main() {
	lab := flag.String("lab", "", "the lab's binary")
	images := flag.String("images", "", "directory with the images small-root.raw and small-data.raw")
	dir := flag.String("dir", "", "scratch directory")
	golden := flag.String("golden", "", "file with the golden sessions of NFC")
	only := flag.String("only", "", "run only checks whose names contain this")
	flag.Parse()

	b, err := newBench(*lab, *images, *dir)
	if err != nil {
		fmt.Fprintf(os.Stderr, "selftest: %s\n", err)
		os.Exit(1)
	}
	b.golden = *golden
	failed := 0
	for _, c := range checks {
		if !strings.Contains(c.name, *only) {
			continue
		}
		start := time.Now()
		if err := c.run(b); err != nil {
			failed++
			fmt.Printf("FAILED %s: %s\n", c.name, err)
			continue
		}
		fmt.Printf("ok     %s (%.1f s)\n", c.name, time.Since(start).Seconds())
	}
	if err := b.close(); err != nil {
		failed++
		fmt.Printf("FAILED the lab ends cleanly: %s\n", err)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
