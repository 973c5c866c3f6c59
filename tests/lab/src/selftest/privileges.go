package main

import (
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// privilegesAreEnforced works with the second account, and takes one privilege after another from it.
func privilegesAreEnforced(b *bench) error {
	strict, err := b.start("strict", "--enforce-privileges")
	if err != nil {
		return err
	}
	account := *strict
	account.User, account.Password = strict.BackupUser, strict.BackupPassword
	client, err := account.login(b.ctx)
	if err != nil {
		return err
	}
	x := &bench{lab: &account, binary: b.binary, dir: b.dir, ctx: b.ctx, client: client}
	vm, err := x.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	tries := map[string]func() error{
		"VirtualMachine.State.CreateSnapshot": func() error {
			_, err := x.snapshot(vm, "made", nil)
			return err
		},
		"VirtualMachine.Provisioning.DiskRandomRead": func() error {
			tree, err := x.tree(vm)
			if err != nil {
				return err
			}
			_, err = methods.QueryChangedDiskAreas(b.ctx, client, &types.QueryChangedDiskAreas{This: vm.Reference(), Snapshot: &tree.Snapshot, DeviceKey: 2000, ChangeId: "*"})
			return err
		},
		"VirtualMachine.State.RemoveSnapshot": func() error {
			tree, err := x.tree(vm)
			if err != nil {
				return err
			}
			return x.removeSnapshot(tree.Snapshot)
		},
		"VirtualMachine.Config.ChangeTracking": func() error { return x.setTracking(vm, true) },
		"VirtualMachine.GuestOperations.Execute": func() error {
			o, err := x.operator("DC0/vm/prod/eu/web")
			if err != nil {
				return err
			}
			_, err = o.start("/bin/true", "")
			return err
		},
		"VirtualMachine.GuestOperations.Modify": func() error {
			o, err := x.operator("DC0/vm/prod/eu/web")
			if err != nil {
				return err
			}
			_, err = o.push("/tmp/x", []byte("x"), 0o600, true)
			return err
		},
	}
	order := []string{"VirtualMachine.State.CreateSnapshot", "VirtualMachine.Provisioning.DiskRandomRead", "VirtualMachine.State.RemoveSnapshot",
		"VirtualMachine.Config.ChangeTracking", "VirtualMachine.GuestOperations.Execute", "VirtualMachine.GuestOperations.Modify"}
	for _, privilege := range order {
		if err := x.tryPrivilege(privilege, vm, tries[privilege]); err != nil {
			return fmt.Errorf("%s: %w", privilege, err)
		}
	}
	return first(x.lookFails(), x.folderNeedsPrivileges(), x.answersAreTruthful(vm), x.tagsNeedAnAccount(strict, vm), strict.stop())
}

// tryPrivilege does something without a privilege and with it.
func (b *bench) tryPrivilege(privilege string, vm *object.VirtualMachine, try func() error) error {
	if err := b.control("POST", "/role", fields{"without": []string{privilege}}, nil); err != nil {
		return err
	}
	err := try()
	if !soap.IsSoapFault(err) {
		return fmt.Errorf("without it: %v", err)
	}
	refusal, ok := soap.ToSoapFault(err).VimFault().(types.NoPermission)
	return first(
		expect("refused as NoPermission", ok, true),
		expect("privilege", refusal.PrivilegeId, privilege),
		expect("object", refusal.Object.Type, "VirtualMachine"),
		b.control("POST", "/role", fields{}, nil), try(),
	)
}

func (b *bench) lookFails() error {
	if err := b.control("POST", "/role", fields{"privileges": []string{"System.Anonymous"}}, nil); err != nil {
		return err
	}
	_, err := b.vm("DC0/vm/prod/db")
	unknown := b.control("POST", "/role", fields{"without": []string{"VirtualMachine.Nonsense"}}, nil)
	return first(expect("looking", faultName(err), "NoPermission"), expect("an unknown privilege is refused", unknown != nil, true),
		b.control("POST", "/role", fields{}, nil))
}

func (b *bench) folderNeedsPrivileges() error {
	may, err := b.folder(b.client, "GET", "web/web.vmx", "", nil)
	if err := first(err, b.control("POST", "/role", fields{"without": []string{"Datastore.FileManagement"}}, nil)); err != nil {
		return err
	}
	mayNot, err := b.folder(b.client, "GET", "web/web.vmx", "", nil)
	return first(err, expect("with the privileges", may.status, 200), expect("without", mayNot.status, 403),
		expect("it says which", strings.Contains(string(mayNot.body), "Datastore.FileManagement"), true), b.control("POST", "/role", fields{}, nil))
}

// answersAreTruthful asks vCenter what the account holds, at the root and where another role is set.
func (b *bench) answersAreTruthful(vm *object.VirtualMachine) error {
	if err := b.control("POST", "/role", fields{"without": []string{"Network.Assign"}}, nil); err != nil {
		return err
	}
	manager := object.NewAuthorizationManager(b.client.Client)
	fetched, err := methods.FetchUserPrivilegeOnEntities(b.ctx, b.client, &types.FetchUserPrivilegeOnEntities{
		This: manager.Reference(), Entities: []types.ManagedObjectReference{vm.Reference(), b.client.ServiceContent.RootFolder}, UserName: b.User})
	if err != nil {
		return err
	}
	asked, err := methods.HasUserPrivilegeOnEntities(b.ctx, b.client, &types.HasUserPrivilegeOnEntities{
		This: manager.Reference(), Entities: []types.ManagedObjectReference{vm.Reference()}, UserName: b.User, PrivId: []string{"Network.Assign", "Folder.Create"}})
	if err != nil {
		return err
	}
	var role struct{ Privileges []string }
	if err := b.control("GET", "/role", nil, &role); err != nil {
		return err
	}
	sort.Strings(role.Privileges)
	granted := []bool{}
	for _, p := range asked.Returnval[0].PrivAvailability {
		granted = append(granted, p.IsGranted)
	}
	return first(
		expect("entities", len(fetched.Returnval), 2),
		expect("privileges on the VM", fetched.Returnval[0].Privileges, role.Privileges),
		expect("privileges at the root", fetched.Returnval[1].Privileges, role.Privileges),
		expect("granted", granted, []bool{false, true}), b.control("POST", "/role", fields{}, nil))
}

// tagsNeedAnAccount makes a tag as administrator and reads it with the second account.
func (b *bench) tagsNeedAnAccount(strict *lab, vm *object.VirtualMachine) error {
	admin, err := strict.login(b.ctx)
	if err != nil {
		return err
	}
	owner := rest.NewClient(admin.Client)
	if err := owner.Login(b.ctx, url.UserPassword(strict.User, strict.Password)); err != nil {
		return err
	}
	category, err := tags.NewManager(owner).CreateCategory(b.ctx, &tags.Category{Name: "level", Cardinality: "SINGLE", AssociableTypes: []string{"VirtualMachine"}})
	if err != nil {
		return err
	}
	tag, err := tags.NewManager(owner).CreateTag(b.ctx, &tags.Tag{Name: "high", CategoryID: category})
	if err != nil {
		return err
	}
	wrong := rest.NewClient(b.client.Client).Login(b.ctx, url.UserPassword(b.User, "wrong"))
	reader := rest.NewClient(b.client.Client)
	if err := reader.Login(b.ctx, url.UserPassword(b.User, b.Password)); err != nil {
		return err
	}
	manager := tags.NewManager(reader)
	if err := manager.AttachTag(b.ctx, tag, vm.Reference()); err != nil {
		return err
	}
	attached, err := manager.GetAttachedTags(b.ctx, vm.Reference())
	if err := first(err, b.control("POST", "/role", fields{"without": []string{"InventoryService.Tagging.AttachTag"}}, nil)); err != nil {
		return err
	}
	refused := manager.DetachTag(b.ctx, tag, vm.Reference())
	return first(
		expect("a wrong password is refused", wrong != nil, true),
		expect("tags", len(attached), 1), expect("tag", attached[0].Name, "high"),
		expect("detaching is refused", refused != nil && strings.Contains(refused.Error(), http.StatusText(http.StatusForbidden)), true),
		b.control("POST", "/role", fields{}, nil))
}
