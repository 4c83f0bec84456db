package coord

// A Txn is a transaction: if all comparisons are true, all operations are done.
// No key may be in two operations, nor in two comparisons.
type Txn struct {
	// If are the comparisons. Without any it is done in any case.
	If []Compare
	// Then are the operations. Without any it only compares.
	Then []Op
}

// A Compare is true if the entry of Key has that revision, 0 if there is none.
type Compare struct {
	Key      string
	Revision Revision
}

// An Op puts an entry or deletes one.
type Op struct {
	// Key is the key of the entry.
	Key string
	// Value is what is put. It may be empty.
	Value []byte
	// Lease is what the entry vanishes with. With 0 it stays, also if it was
	// attached to a lease before.
	Lease LeaseID
	// Delete deletes the entry instead. If there is none, nothing happens.
	Delete bool
}

// A Result is what became of a transaction.
type Result struct {
	// Done says that the comparisons were true and the operations are done.
	Done bool
	// Revision is that of the change, and so of all entries that were put. If
	// nothing was changed, it is the revision at which that was so.
	Revision Revision
	// Found are, if it was not done, the entries that were compared as they
	// were, in the order of Txn.If.
	Found []Entry
}

// IfRevision compares the revision of the entry of key.
func IfRevision(key string, r Revision) Compare { return Compare{key, r} }

// IfAbsent is true if there is no entry of key.
func IfAbsent(key string) Compare { return Compare{key, 0} }

// Put puts an entry that stays.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// PutLeased puts an entry that vanishes with the lease.
func PutLeased(id LeaseID, key string, value []byte) Op {
	return Op{Key: key, Value: value, Lease: id}
}

// Delete deletes the entry of key if there is one.
func Delete(key string) Op { return Op{Key: key, Delete: true} }
