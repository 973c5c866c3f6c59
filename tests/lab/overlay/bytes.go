// Arrays of bytes as vSphere writes them.
package simulator

import "github.com/vmware/govmomi/vim25/xml"

// ArrayOfByte has an element for each byte, as on vSphere; upstream writes one with all of them as text. A
// patched line of the property collector makes it.
type ArrayOfByte struct {
	Byte eachByte `xml:"byte,omitempty"`
}

type eachByte []uint8

// MarshalXML writes signed numbers: xsd:byte is signed.
func (b eachByte) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	for _, v := range b {
		if err := e.EncodeElement(int8(v), start); err != nil {
			return err
		}
	}
	return nil
}
