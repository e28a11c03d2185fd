const list = document.querySelector("ol");
const show = (note) => {
  const item = document.createElement("li");
  item.value = note.number;
  item.textContent = note.text;
  list.prepend(item);
};

const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[^/]*$/, "api/live"));
socket.onopen = async () => (await (await fetch("api/notes")).json()).forEach(show);
socket.onmessage = (message) => show(JSON.parse(message.data));

document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  socket.send(event.target.text.value);
  event.target.reset();
};
