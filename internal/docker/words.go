package docker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
)

// maxWords is how much is kept of what a command or a server says, in bytes: the end of it, where the reason stands.
const maxWords = 4 << 10

// wordsOf returns the end of what was said in a stream of output, and of its errors. The engine puts both into one in frames, each with
// its kind and its length before it; with a terminal nothing stands between. The library's own reader takes the length's word for how
// much memory a frame needs, 4 GiB at most.
func wordsOf(stream io.Reader) (string, error) {
	in := bufio.NewReader(stream)
	var words tail
	for framed := false; ; framed = true {
		head, err := in.Peek(8)
		if framed && err == io.EOF { // what is left is no whole header
			return words.String(), nil
		}
		if len(head) < 8 || head[0] > 3 || head[1]|head[2]|head[3] != 0 {
			if err == nil || err == io.EOF {
				_, err = io.Copy(&words, in)
			}
			return words.String(), err
		}
		length := binary.BigEndian.Uint32(head[4:])
		in.Discard(len(head))
		if _, err := io.CopyN(&words, in, int64(length)); err == io.EOF {
			return words.String(), nil
		} else if err != nil {
			return words.String(), err
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.Buffer.Write(p)
	if extra := t.Len() - maxWords; extra > 0 {
		t.Next(extra)
	}
	return len(p), nil
}

// ReadFrom would read all of it in the buffer's place.
func (t *tail) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{t}, r) }
