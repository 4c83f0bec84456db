package upkeep

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
)

// A question is what a node asks another one, in JSON. One of the pointers is there.
type question struct {
	// Revision is what the copy of the other node has to show first.
	Revision coord.Revision `json:"revision"`
	Deleted  *askDeleted    `json:"deleted,omitempty"`
	Check    *askCheck      `json:"check,omitempty"`
}

// askDeleted asks how far all disks of a node are with deletions.
type askDeleted struct {
	Deletions []deletion `json:"deletions"`
}

type deletion struct {
	Family   uint64         `json:"family"`
	Revision coord.Revision `json:"revision"`
}

// An answer is what it gets.
type answer struct {
	Incarnation string `json:"incarnation"`
	// Disks has for each disk the deletions that it is done with.
	Disks map[string][]deleted `json:"disks,omitempty"`
	Check *Found               `json:"check,omitempty"`
}

// deleted says that a disk has nothing of the versions of a deletion but what is kept.
type deleted struct {
	Family   uint64         `json:"family"`
	Revision coord.Revision `json:"revision"`
	Kept     []uint64       `json:"kept,omitempty"`
}

// ask asks a node, which may be this one.
func (k *Keeper) ask(ctx context.Context, node string, q question) (a answer, err error) {
	if node == k.c.Node {
		return k.reply(ctx, q)
	}
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if b, err = k.c.Ask(ctx, node, b); err != nil {
		return a, fmt.Errorf("asking node %s: %w", node, err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("the answer of node %s: %w", node, err)
	}
	return a, nil
}

// Answer answers the question of another node.
func (k *Keeper) Answer(ctx context.Context, asked []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(asked, &q); err != nil {
		return nil, fmt.Errorf("a question of %d bytes that is none: %w: %w", len(asked), err, block.ErrInvalid)
	}
	a, err := k.reply(ctx, q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (k *Keeper) reply(ctx context.Context, q question) (a answer, err error) {
	if _, err := k.c.State.Wait(ctx, q.Revision); err != nil {
		return a, err
	}
	a.Incarnation = k.c.Incarnation
	switch {
	case q.Deleted != nil:
		a.Disks = k.replyDeleted(q.Deleted)
	case q.Check != nil:
		a.Check, err = k.replyCheck(ctx, q.Check)
	default:
		err = fmt.Errorf("a question that this program does not know: %w", block.ErrInvalid)
	}
	return a, err
}

func (k *Keeper) replyDeleted(q *askDeleted) map[string][]deleted {
	all, v := map[string][]deleted{}, k.c.State.View()
	for _, d := range k.c.Disks {
		for _, x := range q.Deletions {
			if done, kept := d.deleted(v, x.Family, x.Revision); done {
				all[d.ID] = append(all[d.ID], deleted{x.Family, x.Revision, kept})
			}
		}
	}
	return all
}
