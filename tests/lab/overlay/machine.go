// VMs that clients create, change and destroy.
package simulator

import (
	"fmt"
	"log"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// CreateVMTask refuses what upstream lets pass or panics on, and completes what it leaves empty.
func (f *Folder) CreateVMTask(ctx *Context, req *types.CreateVM_Task) soap.HasFault {
	dir, fault := f.prepareCreation(req)
	if fault != nil {
		task := CreateTask(f, "createVm", func(*Task) (types.AnyType, types.BaseMethodFault) { return nil, fault })
		return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task.Run()}}
	}
	res := f.upstreamCreateVMTask(ctx, req)
	body, ok := res.(*methods.CreateVM_TaskBody)
	if !ok || body.Res == nil {
		return res
	}
	task := Map.Get(body.Res.Returnval).(*Task)
	if ref, ok := task.Info.Result.(types.ManagedObjectReference); ok {
		Map.Get(ref).(*VirtualMachine).complete()
	} else if dir != "" {
		os.RemoveAll(dir)
	}
	return res
}

// prepareCreation answers the directory that this creation makes, "" when it was there before.
func (f *Folder) prepareCreation(req *types.CreateVM_Task) (string, types.BaseMethodFault) {
	spec := &req.Config
	if spec.Name == "" || spec.Files == nil {
		return "", &types.InvalidVmConfig{Property: "configSpec"}
	}
	if other := Map.FindByName(spec.Name, f.ChildEntity); other != nil {
		return "", &types.DuplicateName{Name: spec.Name, Object: other.Reference()}
	}
	if Map.Get(req.Pool) == nil {
		return "", &types.InvalidArgument{InvalidProperty: "pool"}
	}
	p, fault := parseDatastorePath(spec.Files.VmPathName)
	if fault != nil {
		return "", fault
	}
	dc := Map.getEntityDatacenter(f)
	ds, ok := Map.FindByName(p.Datastore, dc.Datastore).(*Datastore)
	if !ok {
		return "", &types.InvalidDatastore{Name: p.Datastore}
	}
	if fault := checkBackings(dc, spec.DeviceChange); fault != nil {
		return "", fault
	}
	assignKeys(nil, spec.DeviceChange)
	root := ds.Info.GetDatastoreInfo().Url
	if p.Path == "" {
		p.Path = path.Join(freeDirectory(root, spec.Name), spec.Name+".vmx")
		spec.Files.VmPathName = p.String()
	}
	dir := filepath.Join(root, path.Dir(path.Clean("/"+p.Path)))
	if _, err := os.Stat(dir); err == nil {
		return "", nil
	}
	return dir, nil
}

// freeDirectory names a directory as ESXi does when another VM of that name has its own already.
func freeDirectory(root, name string) string {
	free := name
	for n := 1; ; n++ {
		if _, err := os.Lstat(filepath.Join(root, free)); os.IsNotExist(err) {
			return free
		}
		free = fmt.Sprintf("%s_%d", name, n)
	}
}

// checkBackings refuses networks and datastores that do not exist; upstream panics on them.
func checkBackings(dc *Datacenter, changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	for i, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		bad := &types.InvalidDeviceBacking{InvalidDeviceSpec: types.InvalidDeviceSpec{
			InvalidVmConfig: types.InvalidVmConfig{Property: "backing"}, DeviceIndex: int32(i)}}
		if spec.Device == nil {
			return bad
		}
		if spec.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			continue
		}
		switch b := spec.Device.GetVirtualDevice().Backing.(type) {
		case *types.VirtualEthernetCardNetworkBackingInfo:
			if Map.FindByName(b.DeviceName, dc.Network) == nil {
				return bad
			}
		case types.BaseVirtualDeviceFileBackingInfo:
			name := b.GetVirtualDeviceFileBackingInfo().FileName
			p, fault := parseDatastorePath(name)
			if name != "" && (fault != nil || Map.FindByName(p.Datastore, dc.Datastore) == nil) {
				return bad
			}
		}
	}
	return nil
}

// complete fills in what a new VM of vCenter has and upstream's lacks.
func (vm *VirtualMachine) complete() {
	yes := types.NewBool(true)
	created := time.Now().UTC()
	Map.WithLock(vm, func() {
		vm.Capability.ChangeTrackingSupported = yes
		vm.Capability.SnapshotOperationsSupported = true
		vm.Capability.QuiescedSnapshotsSupported = true
		vm.Capability.DiskOnlySnapshotOnSuspendedVMSupported = yes
		vm.Config.CreateDate = &created
		for _, field := range Map.CustomFieldsManager().Field {
			if field.ManagedObjectType == "" || field.ManagedObjectType == "VirtualMachine" {
				vm.AvailableField = append(vm.AvailableField, field)
			}
		}
		vm.Config.ExtraConfig = append(vm.Config.ExtraConfig, &types.OptionValue{Key: "nvram", Value: path.Base(vm.nvramFile())})
		if vm.Config.ChangeTrackingEnabled == nil {
			vm.Config.ChangeTrackingEnabled = types.NewBool(false)
		}
		vm.Runtime.ConsolidationNeeded = types.NewBool(false)
		if err := vm.writeVmx(); err != nil {
			log.Printf("write vmx of %s: %s", vm.Name, err)
		}
		vm.RefreshStorageInfo(internalContext, nil)
	})
}

// ReconfigVMTask gives added devices the keys that vSphere would.
func (vm *VirtualMachine) ReconfigVMTask(ctx *Context, req *types.ReconfigVM_Task) soap.HasFault {
	if Proxies.IsProxy(vm.Self.Value) {
		return vm.reconfigureProxy(req)
	}
	if fault := checkBackings(Map.getEntityDatacenter(vm), req.Spec.DeviceChange); fault != nil {
		task := CreateTask(vm, "reconfigVm", func(*Task) (types.AnyType, types.BaseMethodFault) { return nil, fault })
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task.Run()}}
	}
	vm.takePolicies(&req.Spec)
	assignKeys(vm.Config.Hardware.Device, req.Spec.DeviceChange)
	res := vm.upstreamReconfigVMTask(ctx, req)
	if err := vm.writeVmx(); err != nil {
		log.Printf("write vmx of %s: %s", vm.Name, err)
	}
	return res
}

// DestroyTask forgets snapshots too; upstream removes the files.
func (vm *VirtualMachine) DestroyTask(ctx *Context, req *types.Destroy_Task) soap.HasFault {
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		return vm.upstreamDestroyTask(ctx, req) // refuses
	}
	if vm.Snapshot != nil {
		vm.dropSnapshots(allSnapshotsInTree(vm.Snapshot.RootSnapshotList))
	}
	dirs := vm.diskDirectories()
	res := vm.upstreamDestroyTask(ctx, req)
	removeEmpty(dirs)
	Lab.forget(vm.Self)
	return res
}

// genVmdkPath names a disk for which the client gave only a datastore: beside the .vmx.
func (vm *VirtualMachine) genVmdkPath(p object.DatastorePath) (string, types.BaseMethodFault) {
	home, fault := parseDatastorePath(vm.Config.Files.VmPathName)
	if fault != nil {
		return "", fault
	}
	if p.Datastore == "" {
		p.Datastore = home.Datastore
	}
	for n := 0; ; n++ {
		name := vm.Config.Name + ".vmdk"
		if n > 0 {
			name = fmt.Sprintf("%s_%d.vmdk", vm.Config.Name, n)
		}
		p.Path = path.Join(path.Dir(home.Path), name)
		local, err := localPath(vm, p.String())
		if err != nil {
			return "", &types.InvalidDatastorePath{DatastorePath: p.String()}
		}
		if _, err := os.Lstat(local); os.IsNotExist(err) {
			return p.String(), nil
		}
	}
}

// RefreshStorageInfo lists the VM's files under their full datastore paths.
func (vm *VirtualMachine) RefreshStorageInfo(ctx *Context, req *types.RefreshStorageInfo) soap.HasFault {
	body := &methods.RefreshStorageInfoBody{Res: &types.RefreshStorageInfoResponse{}}
	if vm.Runtime.Host == nil {
		return body
	}
	vm.dropMissingFiles()
	dir, fault := parseDatastorePath(path.Dir(vm.Config.Files.VmPathName))
	if fault != nil {
		return &methods.RefreshStorageInfoBody{Fault_: Fault("", fault)}
	}
	local, err := localPath(vm, dir.String())
	if err != nil {
		return body
	}
	entries, err := os.ReadDir(local)
	if err != nil {
		return body // a VM without files has nothing to list
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			vm.addFileLayoutEx(object.DatastorePath{Datastore: dir.Datastore, Path: path.Join(dir.Path, e.Name())}, info.Size())
		}
	}
	vm.updateDiskLayouts()
	return body
}

func (vm *VirtualMachine) dropMissingFiles() {
	kept := vm.LayoutEx.File[:0]
	for _, file := range vm.LayoutEx.File {
		local, err := localPath(vm, file.Name)
		if err != nil {
			continue
		}
		if info, err := os.Stat(local); err == nil {
			file.Size, file.UniqueSize = info.Size(), info.Size()
			kept = append(kept, file)
		}
	}
	vm.LayoutEx.File = kept
}

// Run switches power and lets Tools come and go with it.
func (c *powerVMTask) Run(task *Task) (types.AnyType, types.BaseMethodFault) {
	if file := c.VirtualMachine.isAttachedForWriting(); file != "" && c.state == types.VirtualMachinePowerStatePoweredOn {
		return nil, fileLocked(file)
	}
	result, fault := c.switchPower(task)
	if fault == nil {
		Lab.killGuest(c.VirtualMachine)
		c.VirtualMachine.publishTools()
	}
	return result, fault
}

// publishTools shows in the VM's properties whether Tools run.
func (vm *VirtualMachine) publishTools() {
	status, running, version := types.VirtualMachineToolsStatusToolsNotRunning, types.VirtualMachineToolsRunningStatusGuestToolsNotRunning, "guestToolsCurrent"
	Lab.mu.Lock()
	b := Lab.guest(vm.Self).behaviour
	Lab.mu.Unlock()
	if b.Tools == "absent" {
		status, version = types.VirtualMachineToolsStatusToolsNotInstalled, "guestToolsNotInstalled"
	} else if Lab.toolsRun(vm) {
		status, running = types.VirtualMachineToolsStatusToolsOk, types.VirtualMachineToolsRunningStatusGuestToolsRunning
	}
	number := "12389"
	if b.Tools == "old" {
		version, number = "guestToolsSupportedOld", "10277"
		if Lab.toolsRun(vm) {
			status = types.VirtualMachineToolsStatusToolsOld
		}
	} else if b.Tools == "absent" {
		number = "0"
	}
	operations := Lab.toolsRun(vm) && b.Operations == "on"
	Map.Update(vm, []types.PropertyChange{
		{Name: "guest.toolsStatus", Val: status},
		{Name: "guest.toolsRunningStatus", Val: string(running)},
		{Name: "guest.toolsVersionStatus", Val: version},
		{Name: "guest.toolsVersionStatus2", Val: version},
		{Name: "guest.guestFamily", Val: b.Family},
		{Name: "guest.hostName", Val: vm.Name},
		{Name: "guest.toolsVersion", Val: number},
		{Name: "guest.guestOperationsReady", Val: operations},
	})
}
