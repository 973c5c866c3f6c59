// Files of the directory that plays the guest, and the addresses by which clients move them.
package simulator

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// guestTransfer is what an address stands for: one GET or one PUT, for ten minutes.
type guestTransfer struct {
	vm      *VirtualMachine
	name    string // in the guest
	local   string
	upload  bool
	size    int64
	mode    os.FileMode
	expires time.Time
}

// GuestFilePath is the path of all addresses of transfers.
const GuestFilePath = "/guestFile"

// issueURL answers an address with * for the host, as vSphere does.
func (l *labState) issueURL(ctx *Context, t *guestTransfer) string {
	life := l.behaviour(t.vm).URLSeconds
	t.expires = time.Now().Add(time.Duration(life * float64(time.Second)))
	token := uuid.New().String()
	l.mu.Lock()
	l.urls[token] = t
	l.mu.Unlock()
	host := "*"
	if ctx.req != nil && ctx.req.Host != "" {
		if u, err := url.Parse("https://" + ctx.req.Host); err == nil && u.Port() != "" {
			host = "*:" + u.Port()
		}
	}
	return fmt.Sprintf("https://%s%s?id=%s&token=%s", host, GuestFilePath, t.vm.Self.Value, token)
}

func (l *labState) takeURL(token string) *guestTransfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.urls[token]
	delete(l.urls, token)
	if !ok || time.Now().After(t.expires) {
		return nil
	}
	return t
}

// GuestTransferVM answers the VM of an address, which stays good.
func (l *labState) GuestTransferVM(r *http.Request) (moref, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.urls[r.URL.Query().Get("token")]; t != nil {
		return t.vm.Self.Value, t.vm.Name
	}
	return "", ""
}

// ServeGuestFile carries out a transfer. An address is good for one use.
func (l *labState) ServeGuestFile(w http.ResponseWriter, r *http.Request) {
	t := l.takeURL(r.URL.Query().Get("token"))
	wanted := http.MethodGet
	if t != nil && t.upload {
		wanted = http.MethodPut
	}
	switch {
	case t == nil || t.vm.Self.Value != r.URL.Query().Get("id"):
		discardBody(r)
		http.Error(w, "no such transfer, or it was used, or it is too old", http.StatusNotFound)
	case r.Method != wanted:
		discardBody(r)
		http.Error(w, "this address takes "+wanted, http.StatusMethodNotAllowed)
	case !Lab.toolsRun(t.vm):
		discardBody(r)
		http.Error(w, "the guest is gone", http.StatusInternalServerError)
	case t.upload:
		t.receive(w, r)
	default:
		t.send(w)
	}
}

func discardBody(r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		log.Printf("the body of a refused transfer: %s", err)
	}
}

func (t *guestTransfer) send(w http.ResponseWriter) {
	f, err := os.Open(t.local)
	if err != nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, f); err != nil {
		log.Printf("send %s of %s: %s", t.name, t.vm.Name, err)
	}
}

func (t *guestTransfer) receive(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength >= 0 && r.ContentLength != t.size {
		discardBody(r)
		http.Error(w, fmt.Sprintf("%d bytes were announced", t.size), http.StatusBadRequest)
		return
	}
	f, err := os.OpenFile(t.local, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, t.mode)
	if err != nil {
		discardBody(r)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	n, err := io.Copy(f, io.LimitReader(r.Body, t.size))
	if err == nil {
		err = os.Chmod(t.local, t.mode)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil || n != t.size {
		http.Error(w, fmt.Sprintf("%d of %d bytes arrived: %v", n, t.size, err), http.StatusInternalServerError)
	}
}

// InitiateFileTransferFromGuest answers an address for one GET.
func (m *GuestFileManager) InitiateFileTransferFromGuest(ctx *Context, req *types.InitiateFileTransferFromGuest) soap.HasFault {
	refuse := func(fault types.BaseMethodFault) soap.HasFault {
		return &methods.InitiateFileTransferFromGuestBody{Fault_: Fault("", fault)}
	}
	vm, local, fault := guestFile(req.Vm, req.Auth, req.GuestFilePath)
	if fault != nil {
		return refuse(fault)
	}
	st, err := os.Stat(local)
	if err != nil {
		return refuse(guestFileFault(req.GuestFilePath, err))
	}
	if !st.Mode().IsRegular() {
		return refuse(&types.FileFault{File: req.GuestFilePath})
	}
	changed := st.ModTime().UTC()
	return &methods.InitiateFileTransferFromGuestBody{Res: &types.InitiateFileTransferFromGuestResponse{
		Returnval: types.FileTransferInformation{
			Attributes: &types.GuestPosixFileAttributes{
				GuestFileAttributes: types.GuestFileAttributes{ModificationTime: &changed},
				Permissions:         int64(st.Mode().Perm()),
			},
			Size: st.Size(),
			Url:  Lab.issueURL(ctx, &guestTransfer{vm: vm, name: req.GuestFilePath, local: local}),
		},
	}}
}

// InitiateFileTransferToGuest answers an address for one PUT of so many bytes.
func (m *GuestFileManager) InitiateFileTransferToGuest(ctx *Context, req *types.InitiateFileTransferToGuest) soap.HasFault {
	refuse := func(fault types.BaseMethodFault) soap.HasFault {
		return &methods.InitiateFileTransferToGuestBody{Fault_: Fault("", fault)}
	}
	vm, local, fault := guestFile(req.Vm, req.Auth, req.GuestFilePath)
	if fault != nil {
		return refuse(fault)
	}
	if !isDirectory(path.Dir(local)) {
		return refuse(&types.FileNotFound{FileFault: types.FileFault{File: req.GuestFilePath}})
	}
	if _, err := os.Stat(local); err == nil && !req.Overwrite {
		return refuse(&types.FileAlreadyExists{FileFault: types.FileFault{File: req.GuestFilePath}})
	}
	mode := os.FileMode(0o644)
	if posix, ok := req.FileAttributes.(*types.GuestPosixFileAttributes); ok && posix.Permissions != 0 {
		mode = os.FileMode(posix.Permissions) & 0o777
	}
	return &methods.InitiateFileTransferToGuestBody{Res: &types.InitiateFileTransferToGuestResponse{
		Returnval: Lab.issueURL(ctx, &guestTransfer{vm: vm, name: req.GuestFilePath, local: local, upload: true, size: req.FileSize, mode: mode}),
	}}
}

// guestFile finds the VM of an operation, and the file on this machine.
func guestFile(ref types.ManagedObjectReference, auth types.BaseGuestAuthentication, name string) (*VirtualMachine, string, types.BaseMethodFault) {
	vm, fault := guestOf(ref, auth)
	if fault != nil {
		return nil, "", fault
	}
	local, fault := guestPath(vm, name)
	return vm, local, fault
}

// CreateTemporaryFileInGuest makes an empty file that only its owner can read.
func (m *GuestFileManager) CreateTemporaryFileInGuest(ctx *Context, req *types.CreateTemporaryFileInGuest) soap.HasFault {
	name, fault := makeTemporary(req.Vm, req.Auth, req.DirectoryPath, req.Prefix, req.Suffix, false)
	if fault != nil {
		return &methods.CreateTemporaryFileInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.CreateTemporaryFileInGuestBody{Res: &types.CreateTemporaryFileInGuestResponse{Returnval: name}}
}

// CreateTemporaryDirectoryInGuest makes a directory that only its owner can read.
func (m *GuestFileManager) CreateTemporaryDirectoryInGuest(ctx *Context, req *types.CreateTemporaryDirectoryInGuest) soap.HasFault {
	name, fault := makeTemporary(req.Vm, req.Auth, req.DirectoryPath, req.Prefix, req.Suffix, true)
	if fault != nil {
		return &methods.CreateTemporaryDirectoryInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.CreateTemporaryDirectoryInGuestBody{Res: &types.CreateTemporaryDirectoryInGuestResponse{Returnval: name}}
}

func makeTemporary(ref types.ManagedObjectReference, auth types.BaseGuestAuthentication, dir, prefix, suffix string, directory bool) (string, types.BaseMethodFault) {
	if dir == "" {
		dir = "/tmp"
	}
	name := path.Join(dir, prefix+uuid.New().String()[:8]+suffix)
	_, local, fault := guestFile(ref, auth, name)
	if fault != nil {
		return "", fault
	}
	if directory {
		if err := os.Mkdir(local, 0o700); err != nil {
			return "", guestFileFault(name, err)
		}
		return name, nil
	}
	f, err := os.OpenFile(local, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return "", guestFileFault(name, err)
	}
	return name, nil
}

// DeleteFileInGuest removes a file or a link.
func (m *GuestFileManager) DeleteFileInGuest(ctx *Context, req *types.DeleteFileInGuest) soap.HasFault {
	_, local, fault := guestFile(req.Vm, req.Auth, req.FilePath)
	if fault == nil && isDirectory(local) {
		fault = &types.NotAFile{FileFault: types.FileFault{File: req.FilePath}}
	}
	if fault == nil {
		if err := os.Remove(local); err != nil {
			fault = guestFileFault(req.FilePath, err)
		}
	}
	if fault != nil {
		return &methods.DeleteFileInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.DeleteFileInGuestBody{Res: &types.DeleteFileInGuestResponse{}}
}

// MakeDirectoryInGuest makes a directory, with its parents when asked.
func (m *GuestFileManager) MakeDirectoryInGuest(ctx *Context, req *types.MakeDirectoryInGuest) soap.HasFault {
	_, local, fault := guestFile(req.Vm, req.Auth, req.DirectoryPath)
	if fault == nil && req.CreateParentDirectories {
		if err := os.MkdirAll(path.Dir(local), 0o755); err != nil {
			fault = guestFileFault(req.DirectoryPath, err)
		}
	}
	if fault == nil {
		if err := os.Mkdir(local, 0o755); err != nil {
			fault = guestFileFault(req.DirectoryPath, err)
		}
	}
	if fault != nil {
		return &methods.MakeDirectoryInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.MakeDirectoryInGuestBody{Res: &types.MakeDirectoryInGuestResponse{}}
}

// DeleteDirectoryInGuest removes a directory, with what is in it when asked.
func (m *GuestFileManager) DeleteDirectoryInGuest(ctx *Context, req *types.DeleteDirectoryInGuest) soap.HasFault {
	_, local, fault := guestFile(req.Vm, req.Auth, req.DirectoryPath)
	if fault == nil && !isDirectory(local) {
		fault = &types.FileNotFound{FileFault: types.FileFault{File: req.DirectoryPath}}
	}
	if fault == nil {
		remove := os.Remove
		if req.Recursive {
			remove = os.RemoveAll
		}
		if err := remove(local); err != nil {
			fault = guestFileFault(req.DirectoryPath, err)
		}
	}
	if fault != nil {
		return &methods.DeleteDirectoryInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.DeleteDirectoryInGuestBody{Res: &types.DeleteDirectoryInGuestResponse{}}
}
