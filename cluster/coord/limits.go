package coord

import (
	"fmt"
	"strconv"
	"time"
)

// Limits of what a Store takes. They are within those of etcd as it is set up by
// default, and leave room for a prefix of MaxKey bytes that it puts before keys.
const (
	MaxKey   = 512             // bytes of a key or prefix
	MaxValue = 256 << 10       // bytes of a value
	MaxOps   = 128             // comparisons of a transaction, and operations
	MaxTxn   = 1 << 20         // bytes of all keys and values of a transaction
	MinTTL   = time.Second     // of a lease
	MaxTTL   = 5 * time.Minute // of a lease
)

// CheckKey returns an ErrInvalid that says what is wrong with a key.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: an empty key", ErrInvalid)
	}
	return check("key", key)
}

// CheckPrefix returns an ErrInvalid that says what is wrong with a prefix.
func CheckPrefix(prefix string) error { return check("prefix", prefix) }

func check(what, s string) error {
	if len(s) > MaxKey {
		return fmt.Errorf("%w: a %s of %d bytes, which begins with %s; at most %d are allowed", ErrInvalid, what, len(s), strconv.QuoteToASCII(s[:32]), MaxKey)
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return fmt.Errorf("%w: the %s %s, which may have bytes from ! to ~ only", ErrInvalid, what, strconv.QuoteToASCII(s))
		}
	}
	return nil
}

// CheckTTL returns an ErrInvalid if a lease cannot have that time to live.
func CheckTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("%w: a time to live of %v, must be from %v to %v", ErrInvalid, ttl, MinTTL, MaxTTL)
	}
	return nil
}

// CheckWatch returns an ErrInvalid that says what is wrong with the arguments of
// Watch.
func CheckWatch(prefix string, after Revision) error {
	if after < 0 {
		return fmt.Errorf("%w: a watch after revision %d, which is negative", ErrInvalid, after)
	}
	return CheckPrefix(prefix)
}

// Check returns an ErrInvalid that says what is wrong with the transaction.
func (t Txn) Check() error {
	if len(t.If) > MaxOps || len(t.Then) > MaxOps {
		return fmt.Errorf("%w: a transaction of %d comparisons and %d operations, at most %d each are allowed", ErrInvalid, len(t.If), len(t.Then), MaxOps)
	}
	size, compared, changed := 0, make(map[string]bool, len(t.If)), make(map[string]bool, len(t.Then))
	for _, c := range t.If {
		if err := once(compared, c.Key, "compares"); err != nil {
			return err
		}
		if c.Revision < 0 {
			return fmt.Errorf("%w: comparing %s to revision %d, which is negative", ErrInvalid, c.Key, c.Revision)
		}
		size += len(c.Key)
	}
	for _, op := range t.Then {
		if err := once(changed, op.Key, "changes"); err != nil {
			return err
		}
		if err := op.check(); err != nil {
			return err
		}
		size += len(op.Key) + len(op.Value)
	}
	if size > MaxTxn {
		return fmt.Errorf("%w: a transaction of %d bytes, at most %d are allowed", ErrInvalid, size, MaxTxn)
	}
	return nil
}

// once adds a key that must be valid and new.
func once(seen map[string]bool, key, does string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if seen[key] {
		return fmt.Errorf("%w: a transaction that %s %s twice", ErrInvalid, does, key)
	}
	seen[key] = true
	return nil
}

func (op Op) check() error {
	switch {
	case len(op.Value) > MaxValue:
		return fmt.Errorf("%w: a value of %d bytes for %s, at most %d are allowed", ErrInvalid, len(op.Value), op.Key, MaxValue)
	case op.Delete && (len(op.Value) > 0 || op.Lease != 0):
		return fmt.Errorf("%w: deleting %s with a value or lease", ErrInvalid, op.Key)
	case op.Lease < 0:
		return fmt.Errorf("%w: %s on lease %d, which is negative", ErrInvalid, op.Key, op.Lease)
	}
	return nil
}
