// Privileges: what every call needs, and what the second account holds.
package simulator

import (
	"fmt"
	"sort"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// BackupUser is the account that holds a role in place of everything.
const BackupUser = "backup@lab.local"

const backupRole, backupRoleID = "lab-backup", int32(1000)

// Need is a privilege on an object.
type Need struct {
	Privilege string
	Object    types.ManagedObjectReference
}

// allNeeded is the role that the account begins with: what backups and restores need in all.
var allNeeded = []string{
	"System.Anonymous", "System.View", "System.Read", "Sessions.ValidateSession", "StorageProfile.View", "StorageProfile.Apply",
	"VirtualMachine.Config.ChangeTracking", "VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot",
	"VirtualMachine.Provisioning.GetVmFiles", "VirtualMachine.Provisioning.DiskRandomRead", "VirtualMachine.Provisioning.DiskRandomAccess",
	"VirtualMachine.Provisioning.PutVmFiles", "VirtualMachine.Provisioning.FileRandomAccess", "VirtualMachine.Config.DiskLease",
	"VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.RemoveDisk",
	"VirtualMachine.Config.AddRemoveDevice", "VirtualMachine.Config.Resource", "VirtualMachine.Config.Settings",
	"VirtualMachine.Config.EditDevice", "VirtualMachine.Config.DiskExtend", "VirtualMachine.Config.RawDevice",
	"Datastore.AllocateSpace", "Datastore.Browse", "Datastore.FileManagement",
	"VirtualMachine.GuestOperations.Query", "VirtualMachine.GuestOperations.Modify", "VirtualMachine.GuestOperations.Execute",
	"VirtualMachine.Inventory.Create", "VirtualMachine.Inventory.Register", "VirtualMachine.Inventory.Unregister",
	"VirtualMachine.Inventory.Delete", "VirtualMachine.Config.AdvancedConfig", "VirtualMachine.Config.Annotation",
	"VirtualMachine.Config.CPUCount", "VirtualMachine.Config.Memory", "VirtualMachine.Config.Rename", "VirtualMachine.Provisioning.MarkAsTemplate",
	"VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.AnswerQuestion",
	"VirtualMachine.Interact.DeviceConnection", "Resource.AssignVMToPool", "Network.Assign", "Folder.Create", "VApp.Export", "VApp.Import",
	"Global.SetCustomField", "Global.ManageCustomFields", "InventoryService.Tagging.AttachTag",
}

// open are methods that anyone may call, some before logging in.
var open = words(`RetrieveServiceContent RetrieveInternalContent Login LoginByToken Logout CurrentTime CancelTask
	HasPrivilegeOnEntities HasPrivilegeOnEntity HasUserPrivilegeOnEntities FetchUserPrivilegeOnEntities
	CancelWaitForUpdates CreatePropertyCollector DestroyPropertyCollector DestroyPropertyFilter DestroyView
	ContinueRetrievePropertiesEx CancelRetrievePropertiesEx AcquireGenericServiceTicket NfcGetServerNfcLibVersion HttpNfcLeaseProgress
	HttpNfcLeaseComplete HttpNfcLeaseAbort HttpNfcLeaseGetManifest`)

// viewing are methods that System.View at the root is enough for.
var viewing = words(`RetrieveProperties RetrievePropertiesEx WaitForUpdates WaitForUpdatesEx CheckForUpdates CreateFilter CreateContainerView
	CreateListView ModifyListView ResetListView ResetListViewFromView FindByInventoryPath FindByUuid FindAllByUuid FindChild FindByDatastorePath FindByDnsName
	FindByIp QueryAvailablePerfMetric QueryOptions ReadNextEvents QueryEvents CreateCollectorForEvents RetrieveRolePermissions RetrieveEntityPermissions
	RetrieveAllPermissions QueryConfigOption QueryConfigOptionEx QueryConfigTarget`)

// byObject are methods that need one privilege on the object that they are called on, or on its VM.
var byObject = map[string]string{
	"SessionIsActive": "Sessions.ValidateSession", "CreateSnapshot_Task": "VirtualMachine.State.CreateSnapshot",
	"CreateSnapshotEx_Task": "VirtualMachine.State.CreateSnapshot", "RemoveSnapshot_Task": "VirtualMachine.State.RemoveSnapshot",
	"RemoveAllSnapshots_Task": "VirtualMachine.State.RemoveSnapshot", "ConsolidateVMDisks_Task": "VirtualMachine.State.RemoveSnapshot",
	"RevertToSnapshot_Task": "VirtualMachine.State.RevertToSnapshot", "QueryChangedDiskAreas": "VirtualMachine.Provisioning.DiskRandomRead",
	"ExportVm": "VApp.Export", "ExportSnapshot": "VApp.Export", "PowerOnVM_Task": "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task": "VirtualMachine.Interact.PowerOff", "ShutdownGuest": "VirtualMachine.Interact.PowerOff",
	"ResetVM_Task": "VirtualMachine.Interact.Reset", "SuspendVM_Task": "VirtualMachine.Interact.Suspend", "AnswerVM": "VirtualMachine.Interact.AnswerQuestion",
	"Rename_Task": "VirtualMachine.Config.Rename", "UnregisterVM": "VirtualMachine.Inventory.Unregister", "RegisterVM_Task": "VirtualMachine.Inventory.Register",
	"CreateFolder": "Folder.Create", "SearchDatastore_Task": "Datastore.Browse", "SearchDatastoreSubFolders_Task": "Datastore.Browse",
	"MakeDirectory": "Datastore.FileManagement", "DeleteDatastoreFile_Task": "Datastore.FileManagement", "MoveDatastoreFile_Task": "Datastore.FileManagement",
	"CopyDatastoreFile_Task": "Datastore.FileManagement", "CreateVirtualDisk_Task": "Datastore.FileManagement", "DeleteVirtualDisk_Task": "Datastore.FileManagement",
	"CopyVirtualDisk_Task": "Datastore.FileManagement", "ExtendVirtualDisk_Task": "Datastore.FileManagement", "CreateNasDatastore": "Host.Config.Storage",
	"RemoveDatastore": "Host.Config.Storage", "RelocateVM_Task": "Resource.ColdMigrate", "CloneVM_Task": "VirtualMachine.Provisioning.Clone",
	"MarkAsTemplate": "VirtualMachine.Provisioning.MarkAsTemplate", "MarkAsVirtualMachine": "VirtualMachine.Provisioning.MarkAsVM", "setCustomValue": "Global.SetCustomField",
	"AddCustomFieldDef": "Global.ManageCustomFields", "ImportVApp": "VApp.Import", "AddAuthorizationRole": "Authorization.ModifyRoles",
	"UpdateAuthorizationRole": "Authorization.ModifyRoles", "RemoveAuthorizationRole": "Authorization.ModifyRoles",
	"SetEntityPermissions": "Authorization.ModifyPermissions", "RemoveEntityPermission": "Authorization.ModifyPermissions", "CreateResourcePool": "Resource.CreatePool",
	"NfcGetVmFiles": "VirtualMachine.Provisioning.GetVmFiles", "NfcRandomAccessOpenReadonly": "VirtualMachine.Provisioning.DiskRandomRead",
	"NfcRandomAccessOpenDisk": "VirtualMachine.Provisioning.DiskRandomAccess",
}

// byArgument are methods that need one privilege on the VM among their arguments.
var byArgument = map[string]string{
	"StartProgramInGuest": "Execute", "TerminateProcessInGuest": "Execute", "ListProcessesInGuest": "Query", "ValidateCredentialsInGuest": "Query",
	"InitiateFileTransferFromGuest": "Query", "ListFilesInGuest": "Query", "InitiateFileTransferToGuest": "Modify", "CreateTemporaryFileInGuest": "Modify",
	"CreateTemporaryDirectoryInGuest": "Modify", "MakeDirectoryInGuest": "Modify", "DeleteFileInGuest": "Modify", "DeleteDirectoryInGuest": "Modify",
}

func words(text string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(text) {
		set[w] = true
	}
	return set
}

// NeedsOf reads from a SOAP call what it needs. A method that no list has needs what nobody's role holds: the
// lab is to be told of it.
func (l *labState) NeedsOf(method string, this types.ManagedObjectReference, body []byte) []Need {
	root := Map.content().RootFolder
	switch {
	case open[method]:
		return nil
	case viewing[method]:
		if this.Type == "PropertyCollector" && readsOnlyPublic(body) {
			return nil
		}
		return []Need{{"System.View", root}}
	case IsNfcMethod(method):
		return []Need{{byObject[method], NfcVM(body)}}
	case byObject[method] != "":
		return []Need{{byObject[method], l.entityOf(this)}}
	}
	call, err := UnmarshalBody(Map.typeFunc, body)
	if err != nil {
		return []Need{{"Lab.NotASoapCall", root}}
	}
	if privilege := byArgument[method]; privilege != "" {
		return []Need{{"VirtualMachine.GuestOperations." + privilege, argumentVM(call.Body)}}
	}
	switch req := call.Body.(type) {
	case *types.ReconfigVM_Task:
		return l.reconfigNeeds(this, &req.Spec)
	case *types.CreateVM_Task:
		return l.createNeeds(this, req)
	case *types.Destroy_Task:
		if this.Type == "VirtualMachine" {
			return []Need{{"VirtualMachine.Inventory.Delete", this}}
		}
	case *types.SetField:
		return []Need{{"Global.SetCustomField", req.Entity}}
	}
	return []Need{{"Lab.MethodInNoList." + method, root}}
}

func readsOnlyPublic(body []byte) bool {
	call, err := UnmarshalBody(Map.typeFunc, body)
	if err != nil {
		return false
	}
	req, ok := call.Body.(*types.RetrievePropertiesEx)
	return ok && isPublic(req.SpecSet)
}

func argumentVM(body interface{}) types.ManagedObjectReference {
	switch req := body.(type) {
	case *types.StartProgramInGuest:
		return req.Vm
	case *types.TerminateProcessInGuest:
		return req.Vm
	case *types.ListProcessesInGuest:
		return req.Vm
	case *types.ValidateCredentialsInGuest:
		return req.Vm
	case *types.InitiateFileTransferFromGuest:
		return req.Vm
	case *types.InitiateFileTransferToGuest:
		return req.Vm
	case *types.ListFilesInGuest:
		return req.Vm
	case *types.CreateTemporaryFileInGuest:
		return req.Vm
	case *types.CreateTemporaryDirectoryInGuest:
		return req.Vm
	case *types.MakeDirectoryInGuest:
		return req.Vm
	case *types.DeleteFileInGuest:
		return req.Vm
	case *types.DeleteDirectoryInGuest:
		return req.Vm
	}
	return Map.content().RootFolder
}

// entityOf answers the entity of the inventory that a call concerns.
func (l *labState) entityOf(ref types.ManagedObjectReference) types.ManagedObjectReference {
	if s, ok := Map.Get(ref).(*VirtualMachineSnapshot); ok {
		return s.Vm
	}
	if _, ok := Map.Get(ref).(mo.Entity); ok {
		return ref
	}
	return Map.content().RootFolder
}

func (l *labState) reconfigNeeds(vm types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) []Need {
	needs := []Need{}
	add := func(when bool, privilege string) {
		if when {
			needs = append(needs, Need{"VirtualMachine.Config." + privilege, vm})
		}
	}
	add(spec.ChangeTrackingEnabled != nil, "ChangeTracking")
	add(spec.Annotation != "", "Annotation")
	add(spec.Name != "", "Rename")
	add(spec.NumCPUs != 0, "CPUCount")
	add(spec.MemoryMB != 0, "Memory")
	add(len(spec.ExtraConfig) > 0, "AdvancedConfig")
	needs = append(needs, l.deviceNeeds(vm, vm, spec.DeviceChange)...)
	add(len(needs) == 0, "Settings")
	return needs
}

func (l *labState) createNeeds(folder types.ManagedObjectReference, req *types.CreateVM_Task) []Need {
	needs := []Need{{"VirtualMachine.Inventory.Create", folder}, {"Resource.AssignVMToPool", req.Pool}}
	if req.Config.ChangeTrackingEnabled != nil {
		needs = append(needs, Need{"VirtualMachine.Config.ChangeTracking", folder})
	}
	if len(req.Config.ExtraConfig) > 0 {
		needs = append(needs, Need{"VirtualMachine.Config.AdvancedConfig", folder})
	}
	return append(needs, l.deviceNeeds(folder, folder, req.Config.DeviceChange)...)
}

// deviceNeeds is about the changes of devices of a VM, or of one that is made in a folder.
func (l *labState) deviceNeeds(object, in types.ManagedObjectReference, changes []types.BaseVirtualDeviceConfigSpec) []Need {
	var needs []Need
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Device == nil {
			continue
		}
		disk, isDisk := spec.Device.(*types.VirtualDisk)
		adds := spec.Operation == types.VirtualDeviceConfigSpecOperationAdd
		privilege := "AddRemoveDevice"
		switch {
		case spec.Operation == types.VirtualDeviceConfigSpecOperationEdit && isDisk && !onlyPolicy(spec):
			privilege = "DiskExtend"
		case spec.Operation == types.VirtualDeviceConfigSpecOperationEdit:
			privilege = "EditDevice"
		case isDisk && !adds:
			privilege = "RemoveDisk"
		case isDisk && spec.FileOperation == "":
			privilege = "AddExistingDisk"
		case isDisk:
			privilege = "AddNewDisk"
		}
		needs = append(needs, Need{"VirtualMachine.Config." + privilege, object})
		if isDisk && adds {
			if ds, ok := l.datastoreOf(in, disk); ok {
				needs = append(needs, Need{"Datastore.AllocateSpace", ds})
			}
		}
		if network, ok := l.networkOf(in, spec.Device); ok && adds {
			needs = append(needs, Need{"Network.Assign", network})
		}
	}
	return needs
}

func (l *labState) datastoreOf(in types.ManagedObjectReference, disk *types.VirtualDisk) (types.ManagedObjectReference, bool) {
	file := diskFile(disk)
	entity, ok := Map.Get(in).(mo.Entity)
	if file == nil || !ok {
		return in, false
	}
	p, fault := parseDatastorePath(file.FileName)
	if fault != nil {
		return in, false
	}
	ds := Map.FindByName(p.Datastore, Map.getEntityDatacenter(entity).Datastore)
	if ds == nil {
		return in, false
	}
	return ds.Reference(), true
}

func (l *labState) networkOf(in types.ManagedObjectReference, device types.BaseVirtualDevice) (types.ManagedObjectReference, bool) {
	entity, ok := Map.Get(in).(mo.Entity)
	if !ok {
		return in, false
	}
	switch b := device.GetVirtualDevice().Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		if network := Map.FindByName(b.DeviceName, Map.getEntityDatacenter(entity).Network); network != nil {
			return network.Reference(), true
		}
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		return types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: b.Port.PortgroupKey}, true
	}
	return in, false
}

// Missing answers the first need that a user's permissions do not meet, nil when all are met.
func (l *labState) Missing(user string, needs []Need) *Need {
	for _, need := range needs {
		if !l.privilegesOn(user, need.Object)[need.Privilege] {
			lacking := need
			return &lacking
		}
	}
	return nil
}

// privilegesOn looks for the nearest permission of a user, from the object upwards, as vCenter does.
func (l *labState) privilegesOn(user string, object types.ManagedObjectReference) map[string]bool {
	manager := Map.Get(*Map.content().AuthorizationManager).(*AuthorizationManager)
	held := map[string]bool{}
	if user != BackupUser {
		for id := range manager.privileges {
			held[id] = true
		}
		return held
	}
	start := l.entityOf(object)
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := start; ; {
		found := false
		for _, p := range manager.permissions[at] {
			if p.Principal != user || (at != start && !p.Propagate) {
				continue
			}
			found = true
			for _, role := range manager.RoleList {
				for _, id := range role.Privilege {
					if role.RoleId == p.RoleId {
						held[id] = true
					}
				}
			}
		}
		entity, ok := Map.Get(at).(mo.Entity)
		if found || !ok || entity.Entity().Parent == nil {
			return held
		}
		at = *entity.Entity().Parent
	}
}

// SetUpBackupUser makes the second account, its role and its permission at the root.
func (l *labState) SetUpBackupUser(password string) {
	manager := Map.Get(*Map.content().AuthorizationManager).(*AuthorizationManager)
	known := append([]string{}, allNeeded...)
	for _, role := range manager.RoleList {
		known = append(known, role.Privilege...) // upstream's administrator is that of one host and lacks vCenter's
	}
	for _, id := range known {
		manager.privileges[id] = struct{}{}
	}
	l.backupPassword = password
	role := types.AuthorizationRole{RoleId: backupRoleID, Name: backupRole, Privilege: allNeeded, Info: &types.Description{Label: backupRole, Summary: backupRole}}
	manager.RoleList = append(manager.RoleList, role)
	root := Map.content().RootFolder
	manager.permissions[root] = append(manager.permissions[root], types.Permission{Entity: &root, Principal: BackupUser, RoleId: backupRoleID, Propagate: true})
}

// Role answers the privileges of the second account's role.
func (l *labState) Role() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.role().Privilege...)
}

func (l *labState) role() *types.AuthorizationRole {
	manager := Map.Get(*Map.content().AuthorizationManager).(*AuthorizationManager)
	for i := range manager.RoleList {
		if manager.RoleList[i].RoleId == backupRoleID {
			return &manager.RoleList[i]
		}
	}
	return &types.AuthorizationRole{}
}

// SetRole gives the role these privileges, all that are needed for nil, less those in without.
func (l *labState) SetRole(privileges, without []string) error {
	manager := Map.Get(*Map.content().AuthorizationManager).(*AuthorizationManager)
	if privileges == nil {
		privileges = allNeeded
	}
	kept := []string{}
	for _, id := range append(append([]string{}, privileges...), without...) {
		if _, ok := manager.privileges[id]; !ok {
			return fmt.Errorf("vSphere has no privilege %s", id)
		}
	}
	for _, id := range privileges {
		if !contains(without, id) {
			kept = append(kept, id)
		}
	}
	sort.Strings(kept)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.role().Privilege = kept
	return nil
}

// MayLogIn is called from a patched line of upstream's validLogin.
func (l *labState) MayLogIn(user, password string) bool {
	return user == BackupUser && l.backupPassword != "" && password == l.backupPassword
}

// UserOf answers who a session is of, "" when it does not exist.
func UserOf(session string) string {
	s, ok := Map.SessionManager().getSession(session)
	if !ok {
		return ""
	}
	return s.UserName
}

// DatastoreNamed answers a datastore for a check of privileges, the root when there is none.
func (l *labState) DatastoreNamed(dcPath, name string) types.ManagedObjectReference {
	if ds, err := findDatastore(dcPath, name); err == nil {
		return ds.Self
	}
	return Map.content().RootFolder
}

// RootFolder is the object of privileges that are held everywhere.
func (l *labState) RootFolder() types.ManagedObjectReference { return Map.content().RootFolder }

func (l *labState) availability(user string, entity types.ManagedObjectReference, ids []string) types.EntityPrivilege {
	held := l.privilegesOn(user, entity)
	answer := types.EntityPrivilege{Entity: entity}
	for _, id := range ids {
		answer.PrivAvailability = append(answer.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: held[id]})
	}
	return answer
}

// HasUserPrivilegeOnEntities answers truthfully.
func (m *AuthorizationManager) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	res := &types.HasUserPrivilegeOnEntitiesResponse{}
	for _, e := range req.Entities {
		res.Returnval = append(res.Returnval, Lab.availability(req.UserName, e, req.PrivId))
	}
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: res}
}

// HasPrivilegeOnEntities is about the user of a session.
func (m *AuthorizationManager) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	res := &types.HasPrivilegeOnEntitiesResponse{}
	for _, e := range req.Entity {
		res.Returnval = append(res.Returnval, Lab.availability(UserOf(req.SessionId), e, req.PrivId))
	}
	return &methods.HasPrivilegeOnEntitiesBody{Res: res}
}

// HasPrivilegeOnEntity is about the user of a session.
func (m *AuthorizationManager) HasPrivilegeOnEntity(req *types.HasPrivilegeOnEntity) soap.HasFault {
	res := &types.HasPrivilegeOnEntityResponse{}
	held := Lab.privilegesOn(UserOf(req.SessionId), req.Entity)
	for _, id := range req.PrivId {
		res.Returnval = append(res.Returnval, held[id])
	}
	return &methods.HasPrivilegeOnEntityBody{Res: res}
}

// FetchUserPrivilegeOnEntities lists what a user holds on each entity.
func (m *AuthorizationManager) FetchUserPrivilegeOnEntities(req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	res := &types.FetchUserPrivilegeOnEntitiesResponse{}
	for _, e := range req.Entities {
		answer := types.UserPrivilegeResult{Entity: e}
		for id := range Lab.privilegesOn(req.UserName, e) {
			answer.Privileges = append(answer.Privileges, id)
		}
		sort.Strings(answer.Privileges)
		res.Returnval = append(res.Returnval, answer)
	}
	return &methods.FetchUserPrivilegeOnEntitiesBody{Res: res}
}
