"""The people's face: the web page that shows a launch and why it waits."""
