package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// keys is what a keyset's file held when it was read.
type keys struct {
	file    os.FileInfo // nil: there is none yet
	handle  *keyset.Handle
	ids     []string // oldest first
	primary string   // what the file says; what encrypts, the database says
	encrypt map[string]tink.AEAD
	decrypt tink.AEAD
}

func (k *keys) has(id string) bool { return slices.Contains(k.ids, id) }

// forKMS is the associated data of a keyset that a KMS has encrypted.
var forKMS = []byte("flavorsync credentials keyset")

// lookAt refuses what is no file, and what others may use. A link is followed: a
// mounted secret of Kubernetes is one.
func lookAt(path string) (os.FileInfo, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("while looking at the credentials keyset: %w", err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("the credentials keyset %s is not a file", path)
	}
	// Who may read it can read every password.
	mode, allowed := st.Mode().Perm(), fs.FileMode(0o700)
	if !ours(st) {
		allowed |= 0o040 // else we could not: root's file, or a mounted secret, for our group
	}
	if mode&^allowed != 0 {
		return nil, fmt.Errorf("others than its owner may use the credentials keyset %s (mode %04o): chmod 600 it", path, mode)
	}
	return st, nil
}

// sameFile is false for a file that has been replaced or written since.
func sameFile(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// readKeys reads the file at path, which was st just before.
func readKeys(path string, st os.FileInfo, kms tink.AEAD) (*keys, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the operator's own configuration names it
	if err != nil {
		return nil, fmt.Errorf("while reading the credentials keyset: %w", err)
	}
	var form struct {
		EncryptedKeyset string            `json:"encryptedKeyset"`
		Key             []json.RawMessage `json:"key"`
	}
	// Nowhere the cause: it may quote what could not be read.
	isNone := fmt.Errorf("the credentials keyset %s is not a tink keyset in JSON", path)
	if json.Unmarshal(content, &form) != nil {
		return nil, isNone
	}
	var handle *keyset.Handle
	reader := keyset.NewJSONReader(bytes.NewReader(content))
	switch encrypted := form.EncryptedKeyset != ""; {
	case encrypted && kms == nil:
		return nil, fmt.Errorf("the credentials keyset %s is encrypted by a KMS: name it in credentials_kms; "+
			"with that, flavorsync keys decrypt makes it clear text", path)
	case encrypted:
		if handle, err = keyset.ReadWithAssociatedData(reader, kms, forKMS); err != nil {
			return nil, fmt.Errorf("while having the credentials keyset %s decrypted by its KMS: %w", path, err)
		}
	case len(form.Key) == 0:
		return nil, isNone
	case kms != nil:
		return nil, fmt.Errorf("the credentials keyset %s is in clear text, but credentials_kms is set: flavorsync keys encrypt has it encrypted", path)
	default:
		if handle, err = insecurecleartextkeyset.Read(reader); err != nil {
			return nil, isNone
		}
	}
	return keysOf(path, handle, st)
}

func newKeys(path string) (*keys, error) {
	dir := filepath.Dir(path)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("the directory %s of the credentials keyset %s does not exist: create it, or change credentials_keyset", dir, path)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("while making a credentials keyset: %w", err)
	}
	return keysOf(path, handle, nil)
}

func keysOf(path string, handle *keyset.Handle, st os.FileInfo) (*keys, error) {
	all := handle.KeysetInfo()
	k := &keys{file: st, handle: handle, primary: name(all.GetPrimaryKeyId()), encrypt: make(map[string]tink.AEAD)}
	cannot := func(err error) error {
		return fmt.Errorf("the credentials keyset %s cannot encrypt (it must be one of AEAD keys): %w", path, err)
	}
	var err error
	if k.decrypt, err = aead.New(handle); err != nil {
		return nil, cannot(err)
	}
	for _, key := range all.GetKeyInfo() {
		if key.GetStatus() != tink_go_proto.KeyStatusType_ENABLED {
			continue
		}
		id := name(key.GetKeyId())
		if key.GetOutputPrefixType() != tink_go_proto.OutputPrefixType_TINK {
			return nil, fmt.Errorf("the key %s of the credentials keyset %s leaves no id in what it encrypts: its output prefix must be TINK", id, path)
		}
		as := keyset.NewManagerFromHandle(handle)
		if err := as.SetPrimary(key.GetKeyId()); err != nil {
			return nil, cannot(err)
		}
		primary, err := as.Handle()
		if err != nil {
			return nil, cannot(err)
		}
		if k.encrypt[id], err = aead.New(primary); err != nil {
			return nil, cannot(err)
		}
		k.ids = append(k.ids, id)
	}
	return k, nil
}

// name is a key's id as it is written everywhere.
func name(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// encoded is the file of that handle.
func encoded(handle *keyset.Handle, kms tink.AEAD) ([]byte, error) {
	var content bytes.Buffer
	var err error
	if writer := keyset.NewJSONWriter(&content); kms == nil {
		err = insecurecleartextkeyset.Write(handle, writer)
	} else {
		err = handle.WriteWithAssociatedData(writer, kms, forKMS)
	}
	if err != nil {
		return nil, fmt.Errorf("while writing a credentials keyset: %w", err)
	}
	return append(content.Bytes(), '\n'), nil
}

// create writes the file of a new keyset, for its owner alone, whole or not at
// all, and never over another.
func (ks *Keyset) create() (err error) {
	ks.reading.Lock()
	defer ks.reading.Unlock()
	content, err := encoded(ks.state.Load().handle, ks.kms)
	if err != nil {
		return err
	}
	written, err := temporary(ks.path, content)
	if err != nil {
		return fmt.Errorf("while creating the credentials keyset %s: %w", ks.path, err)
	}
	defer func() { err = errors.Join(err, os.Remove(written)) }()
	if err = os.Link(written, ks.path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("another process has just created the credentials keyset %s: start again", ks.path)
	}
	if err == nil {
		err = syncDirectory(ks.path)
	}
	if err != nil {
		return fmt.Errorf("while creating the credentials keyset %s: %w", ks.path, err)
	}
	ks.fresh = false
	return nil
}

// replace writes another state of the keyset over its file, whole or not at all,
// with the owner and the mode that the file has, and reads it.
func (ks *Keyset) replace(handle *keyset.Handle) (err error) {
	ks.reading.Lock()
	defer ks.reading.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("while replacing the credentials keyset %s, which is as it was: %w", ks.path, err)
		}
	}()
	content, err := encoded(handle, ks.kms)
	if err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(ks.path) // the file, and not the link to it
	if err != nil {
		return err
	}
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	written, err := temporary(path, content)
	if err != nil {
		return err
	}
	// The service need not run as who runs this command.
	err = errors.Join(giveTo(written, before), os.Chmod(written, before.Mode().Perm()))
	if err == nil {
		err = os.Rename(written, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(written))
	}
	if err := syncDirectory(path); err != nil {
		return err
	}
	st, err := lookAt(path)
	if err != nil {
		return err
	}
	now, err := keysOf(path, handle, st)
	if err != nil {
		return err
	}
	ks.state.Store(now)
	return nil
}

func temporaryName(path string) string { return "." + filepath.Base(path) + "-*" }

// temporary is a file beside path, for its owner alone, that is on the disk.
func temporary(path string, content []byte) (name string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), temporaryName(path)) // 0600
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name()))
	}
	return tmp.Name(), nil
}

// syncDirectory has the name of path outlast a power cut.
func syncDirectory(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
