// Storage policies: which are there, and which a VM and its disks have.
package simulator

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/vmware/govmomi/vim25/types"
)

// VMPolicies are ids of the storage policies of a VM.
type VMPolicies struct {
	Home  string
	Disks map[string]string // by device key
}

// SetPolicies gives a VM of the spec the policy that it and its disks have.
func (l *labState) SetPolicies(moref, policy string, disks int) {
	told := VMPolicies{Home: policy, Disks: map[string]string{}}
	for i := 0; i < disks; i++ {
		told.Disks[strconv.Itoa(2000+i)] = policy
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.policies[moref] = told
}

// PoliciesOf answers the policies of a VM.
func (l *labState) PoliciesOf(moref string) VMPolicies {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.policies[moref]
}

func policyOf(profiles []types.BaseVirtualMachineProfileSpec) string {
	for _, profile := range profiles {
		if defined, ok := profile.(*types.VirtualMachineDefinedProfileSpec); ok {
			return defined.ProfileId
		}
	}
	return ""
}

// onlyPolicy tells whether a change asks for nothing but a policy: the lab's clients send sizes as they are.
func onlyPolicy(change *types.VirtualDeviceConfigSpec) bool { return policyOf(change.Profile) != "" }

// takePolicies remembers the policies that a reconfigure asks for, and takes out of it edits of disks that ask
// for nothing else: upstream knows no policies.
func (vm *VirtualMachine) takePolicies(spec *types.VirtualMachineConfigSpec) {
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	told := Lab.policies[vm.Self.Value]
	if told.Disks == nil {
		told.Disks = map[string]string{}
	}
	if policy := policyOf(spec.VmProfile); policy != "" {
		told.Home = policy
	}
	var kept []types.BaseVirtualDeviceConfigSpec
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		policy := policyOf(c.Profile)
		if policy == "" || c.Operation != types.VirtualDeviceConfigSpecOperationEdit {
			kept = append(kept, change)
			continue
		}
		told.Disks[strconv.Itoa(int(c.Device.GetVirtualDevice().Key))] = policy
	}
	spec.DeviceChange = kept
	Lab.policies[vm.Self.Value] = told
}

// diskDirectories are the directories of a VM's disks; those beside its own go with it.
func (vm *VirtualMachine) diskDirectories() []string {
	var dirs []string
	for _, device := range vm.Config.Hardware.Device {
		disk, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !ok {
			continue
		}
		if local, err := localPath(vm, backing.GetVirtualDeviceFileBackingInfo().FileName); err == nil {
			dirs = append(dirs, filepath.Dir(local))
		}
	}
	return dirs
}

// removeEmpty removes directories that have nothing in them any more.
func removeEmpty(dirs []string) {
	for _, dir := range dirs {
		_ = os.Remove(dir) // one that is not empty stays
	}
}
