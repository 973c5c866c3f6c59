// Lab is a vCenter to test against: VMware's simulator with real disk files, snapshots that freeze content,
// changed block tracking, datastore access over HTTPS and faults on demand.
//
//	lab --listen 127.0.0.1:0 --control 127.0.0.1:0 --state DIR --spec FILE.json
//	lab nfc [--image FILE | --mib N]
//	lab write --file FILE
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
)

type options struct {
	listen, control, state, spec string
	user, password               string
	backupPassword               string
	enforce                      bool
	apiVersion                   string
	idle                         time.Duration
	maxAreas                     int
	pageBytes                    int64
	dieWithParent                bool
	nfcPort                      int
	nfcSeed                      int64
	nfcNetwork                   string
}

// ready is the one line on standard output.
type ready struct {
	URL        string `json:"url"`
	Control    string `json:"control"`
	CaPem      string `json:"ca_pem"`
	Sha256     string `json:"sha256"`
	User       string `json:"user"`
	Password   string `json:"password"`
	Datacenter string `json:"datacenter"`
	Datastore  string `json:"datastore"`
	State      string `json:"state"`

	BackupUser     string `json:"backup_user"`
	BackupPassword string `json:"backup_password"`

	Hosts   []*nfcHost `json:"hosts"`
	Proxies []*guest   `json:"proxies"`
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "write":
		err = write(os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == "nfc":
		err = serveAlone(os.Args[2:])
	case len(os.Args) == 5 && os.Args[1] == "in-guest": // how the lab runs programs in a guest
		err = simulator.RunInGuest(os.Args[2], os.Args[3], os.Args[4])
	default:
		err = serve(parseWith(os.Args[1:], nil), tellReady)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %s\n", err)
		os.Exit(1)
	}
}

// parseWith takes the lab's flags and those that `more` adds.
func parseWith(args []string, more func(*flag.FlagSet)) options {
	var o options
	flags := flag.NewFlagSet("lab", flag.ExitOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:0", "address of the vCenter")
	flags.StringVar(&o.control, "control", "127.0.0.1:0", "address of the control endpoint")
	flags.StringVar(&o.state, "state", "", "directory for datastores, frozen copies and the certificate; must be empty or new")
	flags.StringVar(&o.spec, "spec", "", "JSON file with datastores and VMs")
	flags.StringVar(&o.user, "user", "administrator@vsphere.local", "user that may log in")
	flags.StringVar(&o.password, "password", "Secret1!", "password of that user")
	flags.StringVar(&o.backupPassword, "backup-password", "Backup1!", "password of the account that holds a role")
	flags.BoolVar(&o.enforce, "enforce-privileges", false, "refuse what the account's role does not allow")
	flags.StringVar(&o.apiVersion, "api-version", "8.0.3.0", "newest API version to offer")
	flags.DurationVar(&o.idle, "idle", 30*time.Minute, "idle time after which a session ends")
	flags.IntVar(&o.maxAreas, "max-areas", 2000, "changed areas in one answer")
	flags.Int64Var(&o.pageBytes, "page-bytes", 64<<20, "disk bytes that one answer of changed areas covers")
	flags.IntVar(&o.nfcPort, "nfc-port", 0, "port of the hosts' NFC servers, each on its own loopback address; 0 takes free ones")
	flags.Int64Var(&o.nfcSeed, "nfc-seed", 1, "seed of the order and sizes of NFC fragments")
	flags.StringVar(&o.nfcNetwork, "nfc-network", "127.0.1.0", "the hosts' NFC servers have the addresses that follow this one")
	flags.BoolVar(&o.dieWithParent, "die-with-parent", false, "end when the process that started the lab ends")
	if more != nil {
		more(flags)
	}
	flags.Parse(args)
	return o
}

// tellReady prints the one line on standard output.
func tellReady(_ *vcenter, r ready) error { return json.NewEncoder(os.Stdout).Encode(r) }

// serve runs the lab until a signal comes; `tell` says that it serves.
func serve(o options, tell func(*vcenter, ready) error) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if o.dieWithParent {
		if err := dieWithParent(stop); err != nil {
			return err
		}
	}
	spec, err := readSpec(o.spec)
	if err != nil {
		return err
	}
	if o.state, err = makeState(o.state); err != nil {
		return err
	}
	identity, err := newIdentity(o.state)
	if err != nil {
		return err
	}
	vcenter, err := newVCenter(o, spec, identity)
	if err != nil {
		return err
	}
	url := vcenter.start()
	defer vcenter.close()
	if err := vcenter.attachTags(url); err != nil {
		return fmt.Errorf("attach tags: %w", err)
	}
	vcenter.enforce = o.enforce
	control, err := net.Listen("tcp", o.control)
	if err != nil {
		return err
	}
	go http.Serve(control, controlHandler(vcenter))
	defer control.Close()

	err = tell(vcenter, ready{
		URL: url, Control: "http://" + control.Addr().String(), CaPem: identity.pem, Sha256: identity.sha256,
		User: o.user, Password: o.password, Datacenter: datacenter, Datastore: spec.Datastores[0].Name, State: o.state,
		BackupUser: simulator.BackupUser, BackupPassword: o.backupPassword,
		Hosts: vcenter.nfc.hosts, Proxies: vcenter.guests.all(),
	})
	if err != nil {
		return err
	}
	<-stop
	return nil
}

// makeState refuses a used directory: an inventory cannot be found again in its files.
func makeState(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("give --state, an empty or new directory")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty: empty it or give another --state", dir)
	}
	simulator.Lab.Configure(simulator.LabSettings{Dir: dir})
	return dir, nil
}
