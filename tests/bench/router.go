// A TLS SNI router in Go's standard library and nothing else: what one needs at least.
// Usage: router LISTEN BACKEND, for the name a.test.
package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"time"
)

var errSeen = errors.New("the hello has been read")

// reader records what is read through it, and takes no answer.
type reader struct {
	net.Conn
	seen bytes.Buffer
}

func (r *reader) Read(room []byte) (int, error) {
	n, err := r.Conn.Read(room)
	r.seen.Write(room[:n])
	return n, err
}

func (r *reader) Write([]byte) (int, error) { return 0, errSeen }

// peek returns the name that the client asks for, and the bytes that were read to learn it.
func peek(client net.Conn) (name string, seen []byte) {
	r := &reader{Conn: client}
	client.SetReadDeadline(time.Now().Add(10 * time.Second))
	tls.Server(r, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, errSeen
	}}).Handshake()
	client.SetReadDeadline(time.Time{})
	return name, r.seen.Bytes()
}

func pass(to, from *net.TCPConn, done chan<- struct{}) {
	io.Copy(to, from) // splices
	to.CloseWrite()
	done <- struct{}{}
}

func serve(client *net.TCPConn, address string) {
	defer client.Close()
	name, seen := peek(client)
	if name != "a.test" {
		client.SetLinger(0)
		return
	}
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return
	}
	defer connection.Close()
	backend := connection.(*net.TCPConn)
	if _, err := backend.Write(seen); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go pass(client, backend, done)
	pass(backend, client, done)
	<-done
	<-done
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil { // out of descriptors
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go serve(client.(*net.TCPConn), os.Args[2])
	}
}
