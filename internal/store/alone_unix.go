//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock locks f until it is closed; errHeld where another has it open and locked.
func lock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("flock: %w", err)
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		for {
			if locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(locked, syscall.EINTR) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("flock: %w", err)
	case errors.Is(locked, syscall.EWOULDBLOCK):
		return errHeld
	case locked != nil:
		return fmt.Errorf("flock: %w", locked)
	}
	return nil
}

// ours says whether the file belongs to whom this process runs as.
func ours(st os.FileInfo) bool {
	owner, ok := st.Sys().(*syscall.Stat_t)
	return !ok || int(owner.Uid) == os.Geteuid()
}

// giveTo gives the file to the owner and the group of another.
func giveTo(name string, other os.FileInfo) error {
	owner, ok := other.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(name, int(owner.Uid), int(owner.Gid))
}
