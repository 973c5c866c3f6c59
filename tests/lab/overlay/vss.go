// What Windows tells of a volume shadow copy: a zip of XML documents.
package simulator

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"text/template"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/types"
)

// VssWriter is one writer of the guest.
type VssWriter struct {
	Name       string   `json:"name"`
	ID         string   `json:"id"`
	State      string   `json:"state"` // stable, failed
	Components []string `json:"components"`
	Path       string   `json:"path"`
}

const vssCopy = 5 // VSS_BT_COPY

var vssTypes = map[int32]string{1: "full", 2: "incremental", 3: "differential", 4: "log", 5: "copy", 6: "other"}

func defaultWriters() []VssWriter {
	return []VssWriter{
		{Name: "System Writer", ID: "e8132975-6f93-4464-a53e-1050253ae220", State: "stable", Components: []string{"System Files"}, Path: `C:\Windows`},
		{Name: "Registry Writer", ID: "afbab4a2-367d-4d15-a586-71dbb18f8485", State: "stable", Components: []string{"Registry"}, Path: `C:\Windows\System32\config`},
		{Name: "SqlServerWriter", ID: "a65faa63-5ea8-4ebc-9dbd-a0c4db26912a", State: "stable", Components: []string{"master", "model", "shop"}, Path: `D:\MSSQL\DATA`},
	}
}

// vssArchive holds the backup components document and one metadata document for each writer that took part.
// With no writers it is what a shadow copy at file system level leaves.
func vssArchive(request types.VirtualMachineWindowsQuiesceSpec, writers []VssWriter) ([]byte, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	document := struct {
		SnapshotSet, Type, Bootable, Partial string
		Writers                              []VssWriter
	}{uuid.New().String(), vssTypes[request.VssBackupType], yesNo(request.VssBootableSystemState, true), yesNo(request.VssPartialFileSupport, false), writers}
	if err := addDocument(archive, "backup.xml", componentsTemplate, document); err != nil {
		return nil, err
	}
	for i, w := range writers {
		if err := addDocument(archive, fmt.Sprintf("writer%d.xml", i), writerTemplate, w); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func yesNo(value *bool, otherwise bool) string {
	if (value == nil && otherwise) || isTrue(value) {
		return "yes"
	}
	return "no"
}

func addDocument(archive *zip.Writer, name string, t *template.Template, data interface{}) error {
	f, err := archive.Create(name)
	if err != nil {
		return err
	}
	return t.Execute(f, data)
}

// Instance is the writer's instance id: the same for a name, as within one boot of Windows.
func (w VssWriter) Instance() string {
	h := sha256.Sum256([]byte("instance " + w.Name))
	return uuid.UUID(*(*[16]byte)(h[:16])).String()
}

// Failed tells whether the writer's components are no backup.
func (w VssWriter) Failed() bool { return w.State == "failed" }

var escaping = template.FuncMap{"x": func(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}}

// The elements and attributes are those of Windows' schemas VssComponentMetadata and VssWriterMetadataInfo.
var componentsTemplate = template.Must(template.New("components").Funcs(escaping).Parse(
	`<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2" bootableSystemStateBackup="{{.Bootable}}" selectComponents="yes" backupType="{{.Type}}" partialFileSupport="{{.Partial}}" snapshotSetId="{{.SnapshotSet}}">
{{- range $w := .Writers}}<WRITER_COMPONENTS instanceId="{{$w.Instance}}" writerId="{{x $w.ID}}" backupSchema="0">
{{- range $w.Components}}<COMPONENT componentName="{{x .}}" componentType="database" backupSucceeded="{{if $w.Failed}}no{{else}}yes{{end}}">
{{- if $w.Failed}}<FAILURE hr="0x800423f4" applicationHr="0x0" state="VSS_WS_FAILED_AT_FREEZE"/>{{end}}</COMPONENT>
{{- end}}</WRITER_COMPONENTS>
{{- end}}</BACKUP_COMPONENTS>
`))

var writerTemplate = template.Must(template.New("writer").Funcs(escaping).Parse(
	`<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo" version="1.2" backupSchema="0">
<IDENTIFICATION writerId="{{x .ID}}" instanceId="{{.Instance}}" friendlyName="{{x .Name}}" usage="USER_DATA" dataSource="TRANSACTION_DB" majorVersion="1" minorVersion="0"/>
<RESTORE_METHOD method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
<BACKUP_LOCATIONS>
{{- $path := .Path}}{{range .Components}}<DATABASE componentName="{{x .}}" caption="{{x .}}" restoreMetadata="no" notifyOnBackupComplete="no" selectable="yes" selectableForRestore="yes" componentFlags="0"><DATABASE_FILES path="{{x $path}}" filespec="{{x .}}.*" filespecBackupType="3855"/></DATABASE>
{{- end}}</BACKUP_LOCATIONS>
</WRITER_METADATA>
`))

// linuxManifest is what Tools for Linux write.
func linuxManifest() []byte {
	return []byte("<quiesceManifest>\n   <productVersion>1</productVersion>\n   <providerName>SyncDriver</providerName>\n</quiesceManifest>\n")
}
