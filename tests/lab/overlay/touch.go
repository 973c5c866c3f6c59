// A guest that writes a lot at once: granules all over a disk, chosen by a seed.
package simulator

import (
	"fmt"
	"math/rand"
	"os"
	"sort"
	"syscall"
)

// Touch says what is written. The same touch of the same disk writes the same bytes.
type Touch struct {
	GranuleBytes int64   `json:"granule_bytes"`
	Fraction     float64 `json:"fraction"` // of the granules
	Seed         int64   `json:"seed"`
	WriteBytes   int64   `json:"write_bytes"` // in each, at a random multiple of 4096 in it
	Start        int64   `json:"start"`
	Length       int64   `json:"length"` // 0: to the end of the disk
	Trim         bool    `json:"trim"`   // makes holes in place of writing
}

// Touched tells what a touch did.
type Touched struct {
	Granules int64 `json:"granules"`
	Bytes    int64 `json:"bytes"`
}

const touchAlign = 4096

// Touch writes under the stun lock from its first byte to its last: a snapshot has all of it or nothing.
func (l *labState) Touch(vm *VirtualMachine, key int32, t Touch) (Touched, error) {
	var live string
	var err error
	Map.WithLock(vm, func() {
		disk, missing := vm.disk(key)
		if err = missing; err == nil {
			live, err = livePath(vm, disk)
		}
	})
	if err != nil {
		return Touched{}, err
	}
	f, err := os.OpenFile(live, os.O_RDWR, 0)
	if err != nil {
		return Touched{}, err
	}
	defer f.Close() // lets go of the lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return Touched{}, err
	}
	st, err := f.Stat()
	if err != nil {
		return Touched{}, err
	}
	if err := t.fill(st.Size()); err != nil {
		return Touched{}, err
	}
	return t.apply(f)
}

func (t *Touch) fill(size int64) error {
	if t.GranuleBytes == 0 {
		t.GranuleBytes = trackedBlock
	}
	if t.WriteBytes == 0 {
		t.WriteBytes = touchAlign
	}
	if t.Length == 0 {
		t.Length = size - t.Start
	}
	switch {
	case t.Fraction <= 0 || t.Fraction > 1:
		return fmt.Errorf("fraction is %v: give more than 0, at most 1", t.Fraction)
	case t.GranuleBytes%touchAlign != 0 || t.WriteBytes%touchAlign != 0 || t.Start%touchAlign != 0 || t.WriteBytes < 0:
		return fmt.Errorf("granule_bytes, write_bytes and start are multiples of %d", touchAlign)
	case t.WriteBytes > t.GranuleBytes:
		return fmt.Errorf("write_bytes is more than granule_bytes")
	case t.Start < 0 || t.Length < t.GranuleBytes || t.Start+t.Length > size:
		return fmt.Errorf("%d bytes from %d on do not lie within the disk's %d or hold no granule", t.Length, t.Start, size)
	}
	return nil
}

func (t *Touch) apply(f *os.File) (Touched, error) {
	random := rand.New(rand.NewSource(t.Seed))
	content := make([]byte, t.WriteBytes)
	var done Touched
	for _, granule := range t.choose(random) {
		places := (t.GranuleBytes-t.WriteBytes)/touchAlign + 1
		offset := t.Start + granule*t.GranuleBytes + random.Int63n(places)*touchAlign
		if t.Trim {
			const punchHole, keepSize = 2, 1
			if err := syscall.Fallocate(int(f.Fd()), punchHole|keepSize, offset, t.WriteBytes); err != nil {
				return done, fmt.Errorf("punch a hole: %w", err)
			}
		} else {
			random.Read(content)
			if _, err := f.WriteAt(content, offset); err != nil {
				return done, err
			}
		}
		done.Granules++
		done.Bytes += t.WriteBytes
	}
	return done, nil
}

// choose takes exactly the fraction of the granules, at least one, in ascending order.
func (t *Touch) choose(random *rand.Rand) []int64 {
	all := t.Length / t.GranuleBytes
	wanted := int64(float64(all)*t.Fraction + 0.5)
	if wanted == 0 {
		wanted = 1
	}
	taken := map[int64]bool{}
	for n := all - wanted; n < all; n++ { // Floyd's sampling: every set of granules is as likely
		if g := random.Int63n(n + 1); !taken[g] {
			taken[g] = true
		} else {
			taken[n] = true
		}
	}
	chosen := make([]int64, 0, wanted)
	for g := range taken {
		chosen = append(chosen, g)
	}
	sort.Slice(chosen, func(i, j int) bool { return chosen[i] < chosen[j] })
	return chosen
}
